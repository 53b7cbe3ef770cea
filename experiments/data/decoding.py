"""Batches of images that are decoded anew for every view, by worker processes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from supermix_pl.experiments.data.augment import Augmentation
from supermix_pl.experiments.data.huggingface import EncodedRows
from supermix_pl.experiments.data.pixels import CPU, Normalisation
from supermix_pl.experiments.data.rgb import EncodedFiles
from supermix_pl.experiments.data.source import Batch, Indices
from supermix_pl.solver.rows import to_device

Pixels = UInt8[Tensor, "3 h w"]
Key = tuple[tuple[int, ...] | None, Indices]
_AUGMENT = 1

EncodedImages = EncodedFiles | EncodedRows


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodingSource:
    """Batches of encoded images, decoded and transformed by worker processes, which stay for the next pass.

    Pixels come from them as bytes, for a GPU in pinned memory, and are normalised on the device. Several batches of
    every worker are ready ahead. A single batch is decoded in the calling process.
    """

    images: EncodedImages
    # from Pillow's image to the pixels; what it draws from torch's generator is seeded for each sample
    training_view: Callable[[Image.Image], Pixels]
    evaluation_view: Callable[[Image.Image], Pixels]  # the same for evaluation
    augment: Augmentation | None  # what follows on the pixels of the training view; `None` for nothing
    normalisation: Normalisation
    num_workers: int  # decoding processes; 0 decodes in this one
    _idle: dict[bool, tuple[list[Key], DataLoader]] = field(default_factory=dict, init=False, repr=False)

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        return self.images.labels

    def batches(
        self, index_batches: Sequence[Indices], *, stream: tuple[int, ...] | None, device: torch.device = CPU
    ) -> Iterator[Batch]:
        keys = [(stream, indices) for indices in index_batches]
        for pixels, labels in self._decoded(keys, pinned=device.type == "cuda"):
            yield self.normalisation.normalise(to_device(pixels, device)), to_device(labels, device)

    def _decoded(self, keys: list[Key], *, pinned: bool) -> Iterator[tuple[Tensor, Tensor]]:
        views: Any = replace(self)  # without the workers, which cannot be sent to workers
        if self.num_workers == 0 or len(keys) < 2:
            yield from map(views.__getitem__, keys)
            return
        asked, workers = self._idle.pop(pinned, None) or ([], None)
        if workers is None:
            workers = DataLoader(
                views,
                sampler=asked,
                batch_size=None,
                num_workers=self.num_workers,
                persistent_workers=True,
                pin_memory=pinned,
                generator=torch.Generator(),  # the global one would be advanced
            )
        asked[:] = keys
        yield from workers
        self._idle[pinned] = asked, workers  # those of a pass that was broken off end with it

    def __getitem__(self, key: Key) -> tuple[UInt8[Tensor, "b 3 h w"], Int64[Tensor, " b"]]:
        """Return the pixels of a batch, and its labels."""
        stream, indices = key
        views = [self._pixels(int(index), stream) for index in indices]
        return torch.stack(views), torch.from_numpy(self.labels[indices])

    def _pixels(self, index: int, stream: tuple[int, ...] | None) -> Pixels:
        image = self.images[index]
        if stream is None:
            return self.evaluation_view(image)
        stream = (*stream, index)
        # Only the CPU's generator: torch.manual_seed would re-seed the accelerators too, and fork_rng not restore them
        with torch.random.fork_rng(devices=[]):
            seed = np.random.SeedSequence(stream).generate_state(1, np.uint64)[0]
            torch.default_generator.manual_seed(int(seed))
            pixels = self.training_view(image)
        if self.augment is None:
            return pixels
        draws = self.augment.draw(np.random.default_rng((*stream, _AUGMENT)), 1)
        return self.augment.apply(pixels[None], draws, fill=self.normalisation.mean_pixel)[0]
