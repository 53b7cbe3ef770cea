"""Where batches come from: a source turns sample indices into normalised images and labels."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from supermix_pl.experiments.data.augment import Augmentation
from supermix_pl.experiments.data.pixels import CPU, Normalisation
from supermix_pl.solver.rows import to_device

# Batches of one epoch differ in size, so these have no named axis
Batch = tuple[Float32[Tensor, "_ 3 _ _"], Int64[Tensor, " _"]]
Indices = Int64[np.ndarray, " _"]
_MOST_BYTES = 2**31


@runtime_checkable
class BatchSource(Protocol):
    """Labelled images that can be asked for by index."""

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class of every sample."""
        ...

    def batches(
        self, index_batches: Sequence[Indices], *, stream: tuple[int, ...] | None, device: torch.device = CPU
    ) -> Iterator[Batch]:
        """Yields the batches of the given samples on a device; they are the same to the bit on every one.

        The stream is the key of the training view: that of a sample is a function of this key and of its index. `None`
        asks for the evaluation view.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ArraySource:
    """Images that lie decoded in one array, in memory or memory-mapped; needs no worker processes.

    Up to 2 GiB stay on every device that batches were wanted on, and are cropped, mirrored and cut out there. More than
    that, and views that take images one by one, are made in the CPU's memory, and sent as bytes.
    """

    images: UInt8[np.ndarray, "n 3 h w"]  # pixels, 0 to 255
    labels: Int64[np.ndarray, " n"]  # classes
    normalisation: Normalisation
    augment: Augmentation | None = None  # the training view; `None` for the images as they are
    _held: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def batches(
        self, index_batches: Sequence[Indices], *, stream: tuple[int, ...] | None, device: torch.device = CPU
    ) -> Iterator[Batch]:
        """Yields the batches of the given samples; see `BatchSource.batches`."""
        augment = None if stream is None else self.augment
        draws = None if augment is None else augment.draw(np.random.default_rng(stream), len(self.labels))
        on_host = self.images.nbytes > _MOST_BYTES or (augment is not None and augment.on_host)
        home = CPU if on_host else device
        images, labels = self._on(home)
        for indices in index_batches:
            rows = to_device(indices, home)
            pixels = images.index_select(0, rows)
            if augment is not None and draws is not None:
                pixels = augment.apply(pixels, draws[indices], fill=self.normalisation.mean_pixel)
            classes = labels.index_select(0, rows)
            yield self.normalisation.normalise(to_device(pixels, device)), to_device(classes, device)

    def _on(self, device: torch.device) -> tuple[UInt8[Tensor, "n 3 h w"], Int64[Tensor, " n"]]:
        """Return images and labels on a device, where they stay."""
        if device not in self._held:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of read-only arrays: nothing writes into these tensors
                images, labels = torch.from_numpy(self.images), torch.from_numpy(self.labels)
                self._held[device] = images.to(device), labels.to(device)
        return self._held[device]
