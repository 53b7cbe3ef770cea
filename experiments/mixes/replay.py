"""Training on images that were made or found before: fixed mixes, or external images without labels."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

from supermix_pl import FrozenTeacher, MixedBatch
from supermix_pl.engine import Engine
from supermix_pl.experiments.data.pixels import Normalisation
from supermix_pl.experiments.mixes.description import source_order
from supermix_pl.experiments.mixes.misplaced import MisplacedMixes
from supermix_pl.experiments.mixes.shards import FixedMixes, Mixes
from supermix_pl.mixing import Mixer, Seed, present
from supermix_pl.mixing.natural import count_classes
from supermix_pl.mixing.views import Transform
from supermix_pl.solver import Outcome
from supermix_pl.solver.criterion import soft_targets

_AHEAD = 4  # batches, by as many threads


class ReplayEngine(Engine):
    """An engine that solves nothing: every batch gets the next images of a kept set, labelled by the teacher.

    The set is used in one random order after the other, each image at most once in a pass: the places that a smaller
    batch leaves empty are passed over, so that every batch is a function of its number. Each view is labelled anew, as
    the authors' code does: the logits are those of exactly what is shown. The images are no mixes of the batch at hand:
    `source_indices` of what it gives are -1. Threads read the next images meanwhile.

    `batch_size` kept images, mixes or others without labels, join a whole batch, which is normalised so.
    """

    solves_now = False  # that was before

    def __init__(
        self,
        images: FixedMixes | MisplacedMixes | UInt8[np.ndarray, "m 3 height width"],
        *,
        normalisation: Normalisation,
        batch_size: int,
    ) -> None:
        self._images = images
        self._normalisation = normalisation
        self._batch_size = batch_size
        self._rows = ReadAhead(self._read)

    def mix(
        self,
        mixer: Mixer,
        teacher: FrozenTeacher | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None,
        *,
        seed: Seed,
        view: Transform | None = None,
        natural_logits: Float[Tensor, "b n"] | None = None,
        num_mixes: int | None = None,
    ) -> MixedBatch:
        """Return the next kept images; the seed's last number counts the batches."""
        assert teacher is not None
        assert not isinstance(seed, int)
        *stream, number = seed
        count = len(images) if num_mixes is None else num_mixes
        rows = self._rows.get(tuple(stream), number, max(count, self._batch_size))[:count]
        mix = self._mixed(rows, count_classes(teacher, images).num_classes, images.device)
        mix = present(mix, teacher, images, view, seed=seed, exact=False, chunk_size=mixer.chunk_size)
        return _classified(mix) if isinstance(self._images, np.ndarray) else mix

    def end(self) -> None:
        """Stop reading ahead."""
        self._rows.stop()

    def _read(self, stream: tuple[int, ...], number: int, size: int) -> Mixes:
        """Return what belongs to a batch, a function of these numbers alone."""
        places = np.arange(number * self._batch_size, number * self._batch_size + size)
        named = int(np.random.default_rng(stream).integers(2**31))
        indices = source_order(len(self._images), places, named)
        return _as_mixes(self._images[indices]) if isinstance(self._images, np.ndarray) else self._images.take(indices)

    def _mixed(self, kept: Mixes, num_classes: int, device: torch.device) -> MixedBatch:
        classes, weights = (torch.from_numpy(part).to(device) for part in (kept.source_classes, kept.mix_weights))
        solved = torch.from_numpy(kept.solved).to(device)
        images = self._normalisation.normalise(torch.from_numpy(kept.images).to(device))
        return MixedBatch(
            images=images,
            masks=interpolate(torch.from_numpy(kept.masks).to(device).float(), images.shape[2:]),
            soft_targets=soft_targets(classes, weights, num_classes),
            teacher_logits=None,
            source_indices=torch.full_like(classes, -1),
            source_classes=classes,
            mix_weights=weights,
            outcomes=torch.where(solved, int(Outcome.SOLVED), int(Outcome.CAPPED)),
            num_steps=torch.from_numpy(kept.num_steps).to(device).long(),
        )


def _as_mixes(pixels: UInt8[np.ndarray, "b 3 h w"]) -> Mixes:
    """Return images that have no labels as mixes of one source, which is of the first class until the teacher tells."""
    count = len(pixels)
    return Mixes(
        images=np.asarray(pixels),
        source_indices=np.full((count, 1), -1),
        source_classes=np.zeros((count, 1), np.int64),
        mix_weights=np.ones((count, 1), np.float32),
        masks=np.ones((count, 1, 1, 1), np.float16),
        solved=np.ones(count, bool),
        holds=np.ones(count, bool),
        num_steps=np.zeros(count, np.int32),
    )


def _classified(mix: MixedBatch) -> MixedBatch:
    """Label images that have no labels with the teacher's class of what is shown; they cannot fail to hold it."""
    assert mix.teacher_logits is not None
    classes = mix.teacher_logits.argmax(dim=1, keepdim=True)
    targets = one_hot(classes[:, 0], mix.teacher_logits.shape[1]).float()
    return replace(mix, source_classes=classes, soft_targets=targets, holds=None)


class ReadAhead:
    """Gives batches by their numbers; threads read the next ones meanwhile.

    The next ones are those at the smallest distance at which two batches were asked for. What is given does not depend
    on the guess: a batch that was not read before is read when it is asked for. A copy starts anew.

    What reads them takes the name of an order, the number of a batch in it, >= 0, and its size.
    """

    def __init__(self, read: Callable[[tuple[int, ...], int, int], Any]) -> None:
        self._read = read
        self._last = self._stride = 0
        self._reading: dict[tuple[tuple[int, ...], int, int], Future[Any]] = {}
        self._threads: ThreadPoolExecutor | None = None

    def __reduce__(self) -> Any:
        return type(self), (self._read,)

    def get(self, stream: tuple[int, ...], number: int, size: int) -> Any:
        """Return a batch."""
        if self._threads is None:
            self._threads, self._last = ThreadPoolExecutor(_AHEAD), number
        if number > self._last:
            self._stride = min(number - self._last, self._stride or number)
        self._last = number
        before = self._reading
        steps = range(1, 1 + _AHEAD) if self._stride else ()
        keys = [(stream, number + step * self._stride, size) for step in steps]
        self._reading = {key: before.pop(key, None) or self._threads.submit(self._read, *key) for key in keys}
        asked = before.pop((stream, number, size), None)
        for other in before.values():
            other.cancel()
        return self._read(stream, number, size) if asked is None else asked.result()

    def stop(self) -> None:
        """Let go of the threads and of what they read."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        self._threads, self._reading = None, {}
