"""Where batches come from: a source turns sample indices into normalised images and labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from supermix_pl.experiments.data.augment import Augmentation, mean_pixel
from supermix_pl.experiments.data.pixels import Normalisation

# Batches of one epoch differ in size, so these have no named axis
Batch = tuple[Float32[Tensor, "_ 3 _ _"], Int64[Tensor, " _"]]
Indices = Int64[np.ndarray, " _"]


@runtime_checkable
class BatchSource(Protocol):
    """Labelled images that can be asked for by index."""

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class of every sample."""
        ...

    def batches(self, index_batches: Sequence[Indices], *, stream: tuple[int, ...] | None) -> Iterator[Batch]:
        """Yields the batches of the given samples.

        Args:
            index_batches: Sample indices, one array for each batch.
            stream: Key of the training view: the view of a sample is a function of this key and of the sample's index.
                `None` asks for the evaluation view.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ArraySource:
    """Images that lie decoded in one array, in memory or memory-mapped; needs no worker processes."""

    images: UInt8[np.ndarray, "n 3 h w"]  # pixels, 0 to 255
    labels: Int64[np.ndarray, " n"]  # classes
    mean: tuple[float, float, float]  # mean of each channel, on the scale [0, 1]
    std: tuple[float, float, float]  # standard deviation of each channel, on the scale [0, 1]
    augment: Augmentation | None = None  # the training view; `None` for the images as they are

    def batches(self, index_batches: Sequence[Indices], *, stream: tuple[int, ...] | None) -> Iterator[Batch]:
        """Yields the batches of the given samples; see `BatchSource.batches`."""
        augment = None if stream is None else self.augment
        draws = augment and augment.draw(np.random.default_rng(stream), len(self.labels))
        fill = mean_pixel(self.mean)
        normalisation = Normalisation(self.mean, self.std)
        for indices in index_batches:
            images = self.images[indices]
            if augment is not None and draws is not None:
                images = augment.apply(images, draws[indices], fill=fill)
            yield normalisation.normalise(torch.from_numpy(images)), torch.from_numpy(self.labels[indices])


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexedSource:
    """Batches of a source with a third field: the place of each sample among the chosen ones, int64 of shape (b,)."""

    source: BatchSource  # what gives the batches
    indices: Indices  # the chosen samples, in rising order

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class of every sample of the source."""
        return self.source.labels

    def batches(self, index_batches: Sequence[Indices], *, stream: tuple[int, ...] | None) -> Iterator[Any]:
        """Yields (images, labels, places) of the given samples; see `BatchSource.batches`."""
        batches = self.source.batches(index_batches, stream=stream)
        for indices, batch in zip(index_batches, batches, strict=True):
            yield *batch, torch.from_numpy(np.searchsorted(self.indices, indices))
