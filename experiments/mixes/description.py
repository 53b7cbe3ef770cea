"""What decides on a set of mixes: how many, of which images, by what; and the file that says so beside them."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.arguments import check_at_least
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.mixes.shards import FORMAT, parse_about
from supermix_pl.experiments.shared.digests import digest_images, digest_teacher
from supermix_pl.experiments.shared.files import to_be_made, write_whole
from supermix_pl.mixing import Mixer
from supermix_pl.mixing.views import Transform, has_stable_repr

SMALLEST_BATCH = 8
MOST_SHARDS = 50_000  # Linux maps 65 530 files into a process


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many mixes, and how they are cut up.

    Every shard is a function of these numbers, the data, the teacher and the mixer alone.
    """

    size: int  # mixes in all, >= 1
    # images that are mixed with one another, >= 2, and make up a file, which a kill costs at most; None for that of
    # the folder, where the first process takes as many as it makes in 20 to 40 seconds, 8 to 128
    batch_size: int | None = None
    seed: int = 0  # names the order of the images and the mixer's chance, >= 0

    def __post_init__(self) -> None:
        for name, minimum in {"size": 1, "batch_size": 2, "seed": 0}.items():
            if (value := getattr(self, name)) is not None:
                check_at_least(name, value, minimum)
        if self.batch_size is not None and self.num_shards > MOST_SHARDS:
            least = -(-self.size // MOST_SHARDS)
            raise ValueError(
                f"expected batch_size >= {least} for {self.size} mixes, of which each batch is a file, got "
                f"{self.batch_size}: {MOST_SHARDS} files can be read at once"
            )

    @property
    def shard_size(self) -> int:
        """Return the batch size, which has been chosen."""
        assert self.batch_size is not None
        return self.batch_size

    @property
    def num_shards(self) -> int:
        return -(-self.size // self.shard_size)

    @property
    def mixed_together(self) -> int:
        """Number of images that are mixed with one another."""
        return min(self.shard_size, max(self.size, SMALLEST_BATCH))

    def length(self, shard: int) -> int:
        return min(self.shard_size, self.size - shard * self.shard_size)


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


def describe(
    datamodule: ImageDataModule, teacher: FrozenTeacher, mixer: Mixer, plan: Plan, *, view: Transform | None = None
) -> dict[str, Any]:
    """Return what decides on a set of mixes: two sets of one description and one batch size are equal."""
    source, samples = datamodule.training_samples()
    planned = {field.name: getattr(plan, field.name) for field in fields(Plan)}
    return {
        "format": FORMAT,
        **{name: value for name, value in planned.items() if value is not None},
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
    """Return a mixer that solves under what the training will show, `view`, where that was left to it.

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


def difference(there: Any, now: Any) -> str:
    """Say what a folder has and what it should have: of mixers of many settings those that differ.

    >>> difference("Mixer(k=2, alpha=3.0, seed=0, size=8)", "Mixer(k=2, alpha=1.0, seed=0, size=8)")
    'there alpha=3.0, now alpha=1.0'
    """
    values = [str(value).split(", ") for value in (there, now)]
    own = [[part for part in parts if part not in others] for parts, others in (values, values[::-1])]
    few = own if all(own) and len(values[0]) > 3 else values
    return "there {}, now {}".format(*map(", ".join, few))


def keep_description(folder: Path, about: dict[str, Any], choose_batch_size: Callable[[], int]) -> int:
    """Describe a folder of mixes, or compare with what it says of itself; return its batch size.

    The first process chooses that, where it is not given, while the others wait.

    Raises:
        ValueError: If it holds mixes of another origin, or its description is damaged.
    """
    path = folder / "about.json"
    with to_be_made(path) as missing:
        if missing:
            chosen = {} if "batch_size" in about else {"batch_size": choose_batch_size()}
            if not path.exists():  # where locks do not reach from machine to machine, another one may have been faster
                write_whole(path, json.dumps(about | chosen, indent=2) + "\n")
    there = parse_about(path)
    differing = [name for name in about if there.get(name) != about[name]]
    if differing:
        changes = "; ".join(f"{name}: {difference(there.get(name), about[name])}" for name in differing)
        raise ValueError(
            f"expected to go on with the mixes that are in {folder}, got others ({changes}): give another folder"
        )
    return there["batch_size"]
