"""How many mixes, and which images they are made of."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from supermix_pl.arguments import check_at_least

_SMALLEST_BATCH = 8
_MOST_SHARDS = 50_000  # Linux maps 65 530 files into a process


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many mixes, and how they are cut up.

    Every shard is a function of these numbers, the data, the teacher and the mixer alone.
    """

    size: int  # mixes in all, >= 1
    # images that are mixed with one another, >= 2, and make up a file, which is what a kill costs at most
    batch_size: int = 128
    seed: int = 0  # names the order of the images and the mixer's chance, >= 0

    def __post_init__(self) -> None:
        for name, minimum in {"size": 1, "batch_size": 2, "seed": 0}.items():
            check_at_least(name, getattr(self, name), minimum)
        if self.num_shards > _MOST_SHARDS:
            least = -(-self.size // _MOST_SHARDS)
            raise ValueError(
                f"expected batch_size >= {least} for {self.size} mixes, of which each batch is a file, got "
                f"{self.batch_size}: {_MOST_SHARDS} files can be read at once"
            )

    @property
    def num_shards(self) -> int:
        return -(-self.size // self.batch_size)

    @property
    def mixed_together(self) -> int:
        """Number of images that are mixed with one another."""
        return min(self.batch_size, max(self.size, _SMALLEST_BATCH))

    def length(self, shard: int) -> int:
        return min(self.batch_size, self.size - shard * self.batch_size)


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
