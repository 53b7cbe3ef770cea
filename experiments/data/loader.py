"""A loader whose order and views are functions of (seed, epoch, sample), and which resumes within an epoch."""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from supermix_pl.arguments import check_at_least
from supermix_pl.experiments.data.pixels import CPU
from supermix_pl.experiments.data.source import BatchSource, Indices
from supermix_pl.solver.rows import to_device

_ORDER, _VIEW = 0, 1


@dataclass(eq=False)
class ResumableLoader:
    """Batches of a source for a Lightning trainer, exactly resumable, sharded over ranks by itself.

    No global generator is read or advanced. Lightning saves and restores `state_dict`. Over several ranks every rank
    gets as many batches, of the same sizes, as every other: without `drop_last` up to `world_size - 1` samples appear
    twice in an epoch, so evaluate on one device where exact figures matter.

    A second pass in one epoch (a plain loop without `set_epoch`, or the shorter of two loaders) has a new order and new
    views.
    """

    source: BatchSource  # what gives the batches
    _: KW_ONLY
    indices: Int64[np.ndarray, " m"] | None = None  # samples to use; None for all of them
    batch_size: int  # samples in a batch, on each rank
    seed: int = 0  # of order and views, >= 0
    shuffle: bool = True  # whether the order is random
    augment: bool = True  # whether samples come in their training view
    drop_last: bool = False  # whether a last smaller batch is left out; so it is where `epoch_batches` is given
    # whether the place of each sample among `indices`, which rise, is a third field of the batches: int64 of shape (b,)
    with_indices: bool = False
    # batches of an epoch on each rank, >= 1: pass after pass over the samples, each in an order and views of its own
    epoch_batches: int | None = None
    rank: int = 0  # this process among `world_size`
    world_size: int = 1
    device: torch.device = CPU  # where the batches are wanted
    # Tells the trainer's epoch and how many of its batches training has finished: a batch that was fetched but not
    # finished when a checkpoint is written (in an exception, say) is fetched again on resuming. Without a clock,
    # `set_epoch` tells the epoch, and every batch that was fetched counts as finished
    clock: Callable[[], tuple[int, int]] | None = None
    batch_sampler: ClassVar[None] = None  # Lightning reads it beside `sampler`

    def __post_init__(self) -> None:
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("seed", self.seed, 0)
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"expected 0 <= rank < world_size, got rank {self.rank} of {self.world_size}")
        self.samples = np.arange(len(self.source.labels)) if self.indices is None else self.indices
        self.drop_last = self.drop_last or self.epoch_batches is not None
        self._epoch = self._pass = self._batch = self._start = 0
        if self._pass_length() == 0:
            raise ValueError(
                f"expected samples for at least one batch, got {len(self.samples)} for batches of {self.batch_size} on "
                f"each of {self.world_size} ranks, drop_last={self.drop_last}: lower batch_size or turn drop_last off"
            )

    @property
    def sampler(self) -> "ResumableLoader | None":
        """What Lightning calls `set_epoch` on.

        Nothing if there is a clock: what Lightning tells is one epoch ahead of `trainer.current_epoch` after it has
        resumed a run with `max_steps` between two epochs.
        """
        return self if self.clock is None else None

    def set_epoch(self, epoch: int) -> None:
        """Turns to an epoch; a new one starts at its first batch, the present one stays where it is."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._pass = self._batch = self._start = 0

    def __len__(self) -> int:
        """Number of batches of an epoch on each rank."""
        return self.epoch_batches or self._pass_length()

    def __iter__(self) -> Iterator[Any]:
        """Yields the epoch's batches, from where a loaded state stopped.

        Everything is looked up at the first `next`: Lightning makes the first iterator before it sets the epoch.
        """
        if self.clock is not None:
            self.set_epoch(self.clock()[0])
        start, self._start = self._start, 0
        self._batch = start
        for stream, remaining in self._remaining(start):
            view = (*stream, _VIEW) if self.augment else None
            batches = self.source.batches(remaining, stream=view, device=self.device)
            for samples, batch in zip(remaining, batches, strict=True):
                self._batch += 1
                yield (*batch, self._places(samples)) if self.with_indices else batch
        self._pass, self._batch = self._pass + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the epoch, after the last batch that training has finished, and what it is valid for."""
        batch = self._batch
        if self.clock is not None and self._pass == 0:
            batch = min(batch, self.clock()[1])
        place = {"epoch": self._epoch, "pass": self._pass, "batch": batch, "num_batches": len(self)}
        return {**place, "layout": self._layout()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from a state in the next iteration.

        Raises:
            ValueError: If the state lies in the middle of an epoch of other samples, batches, ranks or seed.
        """
        saved, mine = state_dict["layout"], self._layout()
        if saved != mine and 0 < state_dict["batch"] < state_dict["num_batches"]:
            changed = [name for name in mine if saved.get(name) != mine[name]]
            expected, got = (", ".join(f"{name}={layout.get(name)}" for name in changed) for layout in (saved, mine))
            raise ValueError(
                f"expected the loader that the checkpoint left in the middle of an epoch, with {expected}, got {got}: "
                "resume with the same data, batch size, seed and number of ranks, or from a checkpoint between epochs"
            )
        self._epoch, self._pass = state_dict["epoch"], state_dict["pass"]
        self._batch = self._start = state_dict["batch"]

    def _places(self, samples: Indices) -> Tensor:
        return to_device(np.searchsorted(self.samples, samples), self.device)

    def _layout(self) -> dict[str, int | bool | None]:
        names = ("batch_size", "seed", "shuffle", "augment", "drop_last", "epoch_batches", "world_size")
        return {"num_samples": len(self.samples), **{name: getattr(self, name) for name in names}}

    def _num_mine(self) -> int:
        return len(self.samples) // self.world_size if self.drop_last else -(-len(self.samples) // self.world_size)

    def _pass_length(self) -> int:
        """Number of batches of one pass over the samples, on each rank."""
        mine = self._num_mine()
        return mine // self.batch_size if self.drop_last else -(-mine // self.batch_size)

    def _remaining(self, start: int) -> Iterator[tuple[tuple[int, ...], list[Indices]]]:
        """Yields the index batches from `start` on, pass by pass, each with what names its chance."""
        stream, each = (self.seed, self._epoch, self._pass), self._pass_length()
        if self.epoch_batches is None:
            yield stream, self._index_batches(stream)[start:]
            return
        for number in range(start // each, -(-self.epoch_batches // each)):
            own, first = (*stream, number), number * each
            yield own, self._index_batches(own)[max(start - first, 0) : self.epoch_batches - first]

    def _index_batches(self, stream: tuple[int, ...]) -> list[Indices]:
        order = self.samples
        if self.shuffle:
            order = np.random.default_rng((*stream, _ORDER)).permutation(order)
        # np.resize starts over from the front where the ranks' shares do not come out even
        mine = np.resize(order, self._num_mine() * self.world_size)[self.rank :: self.world_size]
        return [mine[i : i + self.batch_size] for i in range(0, self._pass_length() * self.batch_size, self.batch_size)]
