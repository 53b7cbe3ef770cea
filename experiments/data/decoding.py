"""Batches of images that are decoded anew for every view, by worker processes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from supermix_pl.experiments.data.augment import Augmentation
from supermix_pl.experiments.data.source import Batch, Indices

Pixels = UInt8[Tensor, "3 h w"]
_AUGMENT = 1


@runtime_checkable
class EncodedImages(Protocol):
    """Labelled images in files or bytes; pickles small, for the workers."""

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class of every image."""
        ...

    def __getitem__(self, index: int) -> Image.Image:
        """Decodes an image into RGB; a `ValueError` names the one that cannot be decoded."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodingSource:
    """Batches of encoded images, decoded and transformed by worker processes."""

    images: EncodedImages
    # from Pillow's image to the pixels; what it draws from torch's generator is seeded for each sample
    training_view: Callable[[Image.Image], Pixels]
    evaluation_view: Callable[[Image.Image], Pixels]  # the same for evaluation
    augment: Augmentation | None  # what follows on the pixels of the training view; `None` for nothing
    fill: UInt8[np.ndarray, "3"]  # the `fill` of `augment`
    normalise: Callable[[Pixels], Float32[Tensor, "3 h w"]]  # from pixels to what the network takes
    num_workers: int  # decoding processes; 0 decodes in this one

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class of every image."""
        return self.images.labels

    def batches(self, index_batches: Sequence[Indices], *, stream: tuple[int, ...] | None) -> Iterator[Batch]:
        """Yields the batches of the given samples; see `BatchSource.batches`."""
        loader = DataLoader(
            _Views(self, stream),
            batch_sampler=[indices.tolist() for indices in index_batches],
            num_workers=self.num_workers,
            generator=torch.Generator(),  # the global one would be advanced
        )
        yield from map(tuple, loader)


class _Views(Dataset[tuple[Tensor, int]]):
    def __init__(self, source: DecodingSource, stream: tuple[int, ...] | None) -> None:
        self.source, self.stream = source, stream
        self.labels = source.labels

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.source.images[index], int(self.labels[index])
        if self.stream is None:
            pixels = self.source.evaluation_view(image)
        else:
            pixels = self._training_pixels(image, (*self.stream, index))
        return self.source.normalise(pixels), label

    def _training_pixels(self, image: Image.Image, stream: tuple[int, ...]) -> Pixels:
        # Only the CPU's generator: torch.manual_seed would re-seed the accelerators too, and fork_rng not restore them
        with torch.random.fork_rng(devices=[]):
            seed = np.random.SeedSequence(stream).generate_state(1, np.uint64)[0]
            torch.default_generator.manual_seed(int(seed))
            pixels = self.source.training_view(image)
        augment = self.source.augment
        if augment is None:
            return pixels
        draws = augment.draw(np.random.default_rng((*stream, _AUGMENT)), 1)
        return torch.from_numpy(augment.apply(pixels.numpy()[None], draws, fill=self.source.fill)[0])
