"""Making a fixed data set of mixes, shard by shard, so that a stopped run goes on where it was."""

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.arguments import check_at_least
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.data.pixels import Normalisation
from supermix_pl.experiments.mixes.progress import GenerationProgress
from supermix_pl.experiments.mixes.shards import FORMAT, Mixes, is_whole, shard_path, write_shard
from supermix_pl.experiments.shared.digests import digest_images, digest_teacher
from supermix_pl.experiments.shared.files import to_be_made
from supermix_pl.mixing import Mixer, present
from supermix_pl.mixing.views import Transform, has_stable_repr
from supermix_pl.transforms import RandomCropFlip

_DEFAULT_GRID = (8, 8)
_SMALLEST_BATCH = 8
_HOLDS = 1  # of a batch's stream of chance: the view that tells which mixes hold


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many mixes, and how they are cut up.

    Every shard is a function of these numbers, the data, the teacher and the mixer alone.

    Args:
        size: Mixes in all, >= 1.
        shard_size: Mixes in a file, >= 1; at most so many are lost when the generation is stopped.
        batch_size: Images that are mixed with one another, >= 2; fewer for a set that is smaller.
        seed: Names the order of the images and the mixer's chance, >= 0.
    """

    size: int
    shard_size: int = 1000
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        least = {"size": 1, "shard_size": 1, "batch_size": 2, "seed": 0}
        for name, minimum in least.items():
            check_at_least(name, getattr(self, name), minimum)

    @property
    def num_shards(self) -> int:
        """Number of files."""
        return -(-self.size // self.shard_size)

    @property
    def mixed_together(self) -> int:
        """Number of images that are mixed with one another."""
        return min(self.batch_size, max(self.size, _SMALLEST_BATCH))

    def length(self, shard: int) -> int:
        """Number of mixes in a shard."""
        return min(self.shard_size, self.size - shard * self.shard_size)


def generate(
    folder: str | Path,
    datamodule: ImageDataModule,
    teacher: FrozenTeacher,
    mixer: Mixer,
    plan: Plan,
    *,
    view: Transform | None = None,
    progress: bool = True,
) -> bool:
    """Make what a folder of mixes lacks. Several processes may do so at once: each takes shards that nobody works on.

    The sources are the training images, without augmentation, in a new order for every pass over them. The mixes are
    kept as they are, without a view; masks are solved under views where the mixer says so.

    Args:
        folder: Made if need be; shards that are there stay.
        datamodule: Gives the images; set up.
        teacher: On the device to work on.
        mixer: Makes the mixes.
        plan: How many.
        view: What the training will show them under, for a mixer with views="auto".
        progress: Whether to show a progress bar, on a terminal; else finished shards are logged.

    Returns:
        Whether the folder is whole; False if other processes are still at work on the rest.

    Raises:
        ValueError: If the folder holds mixes of another origin, or the mixer's views have no repr of their settings.
    """
    about = describe(datamodule, teacher, mixer, plan, view=view)
    mixer = resolve_views(mixer, view, datamodule)
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    _keep_about(folder, about)
    with GenerationProgress(plan.size, bar=progress) as shown:
        for shard in range(plan.num_shards):
            path = shard_path(folder, shard)
            if is_whole(path):
                shown.found(plan.length(shard))
                continue
            with contextlib.suppress(Timeout), FileLock(f"{path}.lock", timeout=0, mode=0o666):
                if is_whole(path):
                    shown.found(plan.length(shard))
                    continue
                parts = []
                for part in _make_shard(datamodule, teacher, mixer, plan, shard):
                    parts.append(part)
                    shown.made(len(part))
                write_shard(path, _join(parts))
                shown.finished(shard)
    return all(is_whole(shard_path(folder, shard)) for shard in range(plan.num_shards))


def describe(
    datamodule: ImageDataModule, teacher: FrozenTeacher, mixer: Mixer, plan: Plan, *, view: Transform | None = None
) -> dict[str, Any]:
    """Return what decides on a set of mixes: two sets of one description are equal."""
    source, samples = datamodule.training_samples()
    return {
        "format": FORMAT,
        **{field.name: getattr(plan, field.name) for field in fields(Plan)},
        "image_size": list(datamodule.image_size),
        "num_classes": datamodule.num_classes,
        "num_sources": len(samples),
        "sources": f"{type(datamodule).__name__} {digest_images(source, samples)}",
        "teacher": digest_teacher(teacher),
        **describe_mixer(mixer, view, datamodule),
    }


def describe_mixer(mixer: Mixer, view: Transform | None, datamodule: ImageDataModule) -> dict[str, str | None]:
    """Name a mixer with its settings, and what its masks are solved under: None for the exact pixels."""
    resolved = resolve_views(mixer, view, datamodule)
    views = resolved.views if isinstance(resolved, SuperMix) else None
    return {"mixer": repr(mixer), "views": None if views is None else repr(views)}


def resolve_views(mixer: Mixer, view: Transform | None, datamodule: ImageDataModule) -> Mixer:
    """Return a mixer that solves under what the training will show, where that was left to it.

    Args:
        mixer: Any.
        view: What the training will show the mixes under.
        datamodule: Tells the size of the images; set up.

    Raises:
        ValueError: If the views let no gradient through, or their repr does not name their settings.
    """
    if not isinstance(mixer, SuperMix) or mixer.views is None:
        return mixer
    images = torch.rand(2, 3, *datamodule.image_size, generator=torch.Generator().manual_seed(0))
    views = mixer.solving_view(view, images)
    if views is not None and not has_stable_repr(views):
        raise ValueError(
            f"expected views with a repr of their settings, by which fixed mixes are known, got {views!r}: give the "
            "class a __repr__, take a view of supermix_pl.transforms, or mix on the fly with mixes=none"
        )
    return replace(mixer, views=views)


def _keep_about(folder: Path, about: dict[str, Any]) -> None:
    """Describe the folder, or compare with what it says."""
    path = folder / "about.json"
    with to_be_made(path) as missing:
        if missing:
            path.with_suffix(".part").write_text(json.dumps(about, indent=2) + "\n")
            path.with_suffix(".part").replace(path)
    there = json.loads(path.read_text())
    differing = [name for name in about if there.get(name) != about[name]]
    if differing:
        changes = "; ".join(f"{name}: there {there.get(name)}, now {about[name]}" for name in differing)
        raise ValueError(
            f"expected to go on with the mixes that are in {folder}, got others ({changes}): give another folder"
        )


def _make_shard(
    datamodule: ImageDataModule, teacher: FrozenTeacher, mixer: Mixer, plan: Plan, shard: int
) -> Iterator[Mixes]:
    """Yield the mixes of a shard, batch by batch; the last batch is mixed whole and cut."""
    source, samples = datamodule.training_samples()
    length, together = plan.length(shard), plan.mixed_together
    starts = range(0, length, together)
    first = shard * plan.shard_size
    positions = [np.arange(first + start, first + start + together) for start in starts]
    rows = [source_order(len(samples), batch, plan.seed) for batch in positions]
    normalisation = Normalisation(datamodule.opened.mean, datamodule.opened.std)
    batches = source.batches([samples[batch] for batch in rows], stream=None)
    device = next(teacher.module.parameters()).device
    for number, (start, batch, (images, labels, *_)) in enumerate(zip(starts, rows, batches, strict=True)):
        images, seed = images.to(device), (plan.seed, shard, number)
        mix = mixer(teacher, images, labels.to(device), seed=seed)
        grid = getattr(mixer, "mask_grid", _DEFAULT_GRID)
        pixels = normalisation.pixels(mix.images)
        kept = replace(mix, images=normalisation.normalise(pixels))
        view = getattr(mixer, "views", None) or RandomCropFlip()
        seen = present(kept, teacher, images, view, seed=(*seed, _HOLDS), exact=False, chunk_size=mixer.chunk_size)
        assert seen.holds is not None
        yield _keep(mix, batch, pixels, seen.holds, grid, min(together, length - start))


def source_order(count: int, positions: Int64[np.ndarray, " b"], seed: int) -> Int64[np.ndarray, " b"]:
    """Return the samples at these places of an endless sequence: one random order of all samples after the other."""
    order = np.empty_like(positions)
    for turn in np.unique(positions // count):
        here = positions // count == turn
        order[here] = _permutation(count, seed, int(turn))[positions[here] % count]
    return order


@functools.lru_cache(maxsize=4)
def _permutation(count: int, seed: int, turn: int) -> Int64[np.ndarray, " n"]:
    return np.random.default_rng([seed, turn]).permutation(count)


@torch.no_grad()
def _keep(
    mix: MixedBatch,
    rows: Int64[np.ndarray, " b"],
    pixels: UInt8[Tensor, "b 3 h w"],
    holds: Bool[Tensor, " b"],
    grid: tuple[int, int],
    length: int,
) -> Mixes:
    """Take what is kept of the mixes to the host: bytes, small masks, how they ended."""
    device = mix.images.device
    height, width = (min(sides) for sides in zip(grid, mix.masks.shape[2:], strict=True))
    kept = {
        "images": pixels,
        "source_indices": torch.from_numpy(rows).to(device)[mix.source_indices],
        "source_classes": mix.source_classes,
        "mix_weights": mix.mix_weights.float(),
        "masks": adaptive_avg_pool2d(mix.masks.float(), (height, width)).half(),
        "solved": mix.solved,
        "holds": holds,
        "num_steps": mix.num_steps.int(),
    }
    return Mixes(**{name: value[:length].cpu().numpy() for name, value in kept.items()})


def _join(parts: list[Mixes]) -> Mixes:
    return Mixes(
        **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Mixes)}
    )
