"""Making a fixed data set of mixes, a file a batch: a stopped run goes on, and processes share the work."""

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from shutil import disk_usage

import numpy as np
import torch
from filelock import BaseFileLock, FileLock, Timeout
from jaxtyping import Int64
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.data.source import BatchSource
from supermix_pl.experiments.mixes.description import (
    MOST_SHARDS,
    SMALLEST_BATCH,
    Plan,
    describe,
    keep_description,
    resolve_views,
    source_order,
)
from supermix_pl.experiments.mixes.shards import Mixes, bytes_of_mix, is_whole, shard_number, shard_path, write_shard
from supermix_pl.mixing import Mixer, present
from supermix_pl.mixing.views import Transform
from supermix_pl.transforms import RandomCropFlip

_DEFAULT_GRID = (8, 8)
_HOLDS = 1  # of a batch's stream of chance: the view that tells which mixes hold
_EVERY = 60  # seconds between two lines of the log
_LONGEST = 40  # seconds for a file, by a process that is alone; a kill shall cost a minute at most
_LARGEST_BATCH = 128
_WAIT = 5  # seconds, while other processes make the rest
_PIECES = 16  # of a batch: decoded by as many workers at once
_Sources = tuple[Tensor, Tensor, Int64[np.ndarray, " b"]]
_log = logging.getLogger(__name__)


def generate(
    folder: str | Path,
    datamodule: ImageDataModule,
    teacher: FrozenTeacher,
    mixer: Mixer,
    plan: Plan,
    *,
    view: Transform | None = None,
) -> None:
    """Make what a folder of mixes lacks. Processes of several machines may do so at once; none knows of the others.

    Where the plan has no batch size, the first process chooses it by timing a few mixes, before all others.

    A process holds a lock on the shard that it makes and on its next one; the system lets go of the locks of a process
    that is killed. Locks only spare work: a shard does not depend on who makes it, and is put in its place whole.

    The sources are the training images, without augmentation, in a new order for every pass over them. The mixes are
    kept as they are, without a view; masks are solved under views where the mixer says so, under `view` where it leaves
    that to the training.

    Raises:
        ValueError: If the folder holds mixes of another origin, or the mixer's views have no repr of their settings.
    """
    about = describe(datamodule, teacher, mixer, plan, view=view)
    mixer = resolve_views(mixer, view, datamodule)
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    read, make = partial(_read, *datamodule.training_samples()), partial(_mix, mixer, teacher, datamodule)

    def choose_batch_size() -> int:
        if teacher.compile:  # of whose batches each new size takes minutes
            return _LARGEST_BATCH
        return fitting_batch_size(lambda trial: make(read(trial, 0), trial, 0), plan)

    plan = replace(plan, batch_size=keep_description(folder, about, choose_batch_size))
    missing = list(range(plan.num_shards))
    shown = GenerationProgress(folder, plan)
    _tell_size(folder, datamodule, mixer, plan, shown.there)
    with ExitStack() as held:
        while missing := [shard for shard in missing if not is_whole(shard_path(folder, shard))]:
            others_do = True
            for shard, lock, sources in _read_ahead(_claims(folder, missing, held), partial(read, plan)):
                others_do = False
                path = shard_path(folder, shard)
                write_shard(path, make(sources.result(), plan, shard))
                Path(lock.lock_file).unlink(missing_ok=True)
                lock.release()
                shown.finished(path)
            if others_do:
                time.sleep(_WAIT)


def fitting_batch_size(make: Callable[[Plan], object], plan: Plan) -> int:
    """Return how many mixes a file shall have, and log how long all take: a few are made for that, and not kept.

    Larger batches may take less time a mix, on GPUs above all. So a size that seems to fit is tried too, but for the
    largest.

    Args:
        make: Makes the first batch of a plan.
        plan: All that is to be made; its batch size is of no account.
    """
    size = least = max(SMALLEST_BATCH, -(-plan.size // MOST_SHARDS))
    while True:
        start = time.monotonic()
        make(replace(plan, batch_size=size))
        each = (time.monotonic() - start) / size
        left = timedelta(seconds=round(plan.size * each))
        _log.info("%d mixes took %.3g s: %d take about %s by one process", size, size * each, plan.size, left)
        fits = 1 << max(1, int(_LONGEST / each)).bit_length() - 1
        fits = max(least, min(fits, _LARGEST_BATCH))
        if fits <= size or fits >= min(plan.size, _LARGEST_BATCH):
            return fits
        size = fits


def _tell_size(folder: Path, datamodule: ImageDataModule, mixer: Mixer, plan: Plan, there: int) -> None:
    """Log how much there is to make; warn where the disk is too small for it."""
    grid = _kept_grid(mixer, datamodule.image_size)
    each, free = bytes_of_mix(datamodule.image_size, mixer.k, grid), disk_usage(folder).free
    height, width = datamodule.image_size
    sizes = f"{plan.size} mixes of {height}x{width} take about {plan.size * each / 1e9:.3g} GB"
    if there < plan.size:
        _log.info("%s in %d files in %s; %d are there", sizes, plan.num_shards, folder, there)
    if free < (plan.size - there) * each:
        _log.warning("%s, %.3g GB are free in %s: choose another disk, or fewer mixes", sizes, free / 1e9, folder)


def _claims(folder: Path, shards: list[int], held: ExitStack) -> Iterator[tuple[int, BaseFileLock]]:
    """Yield shards that nobody has made or is making, each with its lock, in an order of this process's own.

    Where locks do not work, or not over machines, processes seldom meet thanks to that order.
    """
    for shard in np.random.default_rng().permutation(shards).tolist():
        path = shard_path(folder, shard)
        if is_whole(path):
            continue
        lock = FileLock(f"{path}.lock", timeout=0, mode=0o666, thread_local=False, fallback_to_soft=False)
        held.callback(lock.release)
        try:
            lock.acquire()
        except Timeout:
            continue
        except OSError as error:
            warnings.warn(f"no file locks in {folder} ({error.strerror}): some mixes may be made twice", stacklevel=2)
        if is_whole(path):
            lock.release()
        else:
            yield shard, lock


def _read_ahead(
    claims: Iterator[tuple[int, BaseFileLock]], read: Callable[[int], _Sources]
) -> Iterator[tuple[int, BaseFileLock, Future[_Sources]]]:
    """Yield what is claimed with its images, while a thread reads those of the next claim."""
    ahead = None
    with ThreadPoolExecutor(1) as reader:
        for shard, lock in claims:
            sources = reader.submit(read, shard)
            if ahead is not None:
                yield ahead
            ahead = shard, lock, sources
        if ahead is not None:
            yield ahead


def _read(source: BatchSource, samples: Int64[np.ndarray, " n"], plan: Plan, shard: int) -> _Sources:
    """Return the images of a shard, their labels, and their numbers among the training samples."""
    first = shard * plan.shard_size
    rows = source_order(len(samples), np.arange(first, first + plan.mixed_together), plan.seed)
    pieces = np.array_split(samples[rows], min(_PIECES, len(rows)))
    images, labels, *_ = zip(*source.batches(pieces, stream=None), strict=True)
    return torch.cat(images), torch.cat(labels), rows


def _mix(
    mixer: Mixer, teacher: FrozenTeacher, datamodule: ImageDataModule, sources: _Sources, plan: Plan, shard: int
) -> Mixes:
    """Return what is kept of the mixes of a shard; the last batch of all is mixed whole and cut."""
    images, labels, rows = sources
    normalisation = datamodule.opened.normalisation
    device, seed = next(teacher.module.parameters()).device, (plan.seed, shard)
    images = images.to(device)
    mix = mixer(teacher, images, labels.to(device), seed=seed)
    pixels = normalisation.pixels(mix.images)
    shown = replace(mix, images=normalisation.normalise(pixels))
    view = getattr(mixer, "views", None) or RandomCropFlip()
    seen = present(shown, teacher, images, view, seed=(*seed, _HOLDS), exact=False, chunk_size=mixer.chunk_size)
    assert seen.holds is not None
    kept = {
        "images": pixels,
        "source_indices": torch.from_numpy(rows).to(device)[mix.source_indices],
        "source_classes": mix.source_classes,
        "mix_weights": mix.mix_weights.float(),
        "masks": adaptive_avg_pool2d(mix.masks.float(), _kept_grid(mixer, mix.masks.shape[2:])).half(),
        "solved": mix.solved,
        "holds": seen.holds,
        "num_steps": mix.num_steps.int(),
    }
    return Mixes(**{name: value[: plan.length(shard)].detach().cpu().numpy() for name, value in kept.items()})


def _kept_grid(mixer: Mixer, image_size: Sequence[int]) -> tuple[int, int]:
    """Return height and width of the grid that masks are kept on."""
    height, width = getattr(mixer, "mask_grid", _DEFAULT_GRID)
    return min(height, image_size[0]), min(width, image_size[1])


class GenerationProgress:
    """Tells what is done, by all processes, at what rate, the time that is left, and the size of all on the disk."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder, self._plan = folder, plan
        self.there = self._count()  # mixes, at the start
        self._made, self._bytes = 0, 0  # of this process
        self._start = self._told = time.monotonic()

    def finished(self, path: Path) -> None:
        """Count a shard of this process, and what others have made meanwhile; log the first, the last, one a minute."""
        now, done, first = time.monotonic(), self._count(), not self._made
        self._made += self._plan.length(shard_number(path))
        self._bytes += path.stat().st_size
        if first or done == self._plan.size or now - self._told >= _EVERY:
            self._told = now
            rate = max(done - self.there, self._made) / max(1e-9, now - self._start)  # damaged were counted as there
            left = timedelta(seconds=round((self._plan.size - done) / rate))
            size = self._plan.size * self._bytes / self._made / 1e9
            text = "%d of %d mixes, %.1f a second, %s left, %.3g GB in all"
            _log.info(text, done, self._plan.size, rate, left, size)

    def _count(self) -> int:
        numbers = (shard_number(name) for name in os.listdir(self._folder) if name.endswith(".safetensors"))
        return sum(map(self._plan.length, numbers))
