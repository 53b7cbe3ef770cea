"""A folder of image files, one sub-folder a class, as a data module."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Int64
from PIL import UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder as TorchvisionFolder
from torchvision.transforms import v2

from supermix_pl.experiments.data.augment import CropFlip
from supermix_pl.experiments.data.datamodule import CommonArguments, ImageDataModule, Opened, Statistics, height_width
from supermix_pl.experiments.data.source import Batch, Indices

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ImageFolder(ImageDataModule):
    """Images from `<folder>/train/<class>/` and `<folder>/val/<class>/`, decoded by worker processes.

    Training views are random resized crops and flips; evaluation resizes the short side and crops the centre.
    Normalised with the usual ImageNet statistics by default.

    Args:
        folder: Folder with `train` and `val`.
        size: Height and width of what the loaders give, or (height, width).
        resize_ratio: Size before the centre crop over the size after it; 256 / 224 is the usual one.
        num_workers: Decoding processes; `None` for one less than the cores, at most 16.
        common: Arguments of `ImageDataModule`; `augment` is True or False here.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        size: int | Sequence[int] = 224,
        resize_ratio: float = 256 / 224,
        num_workers: int | None = None,
        **common: Unpack[CommonArguments],
    ) -> None:
        super().__init__(**common)
        if isinstance(self.augment, CropFlip):
            raise TypeError("expected augment=True or False, got a CropFlip: image folders take random resized crops")
        if resize_ratio < 1:
            raise ValueError(f"expected resize_ratio >= 1, got {resize_ratio}")
        if num_workers is not None and num_workers < 0:
            raise ValueError(f"expected num_workers >= 0, got {num_workers}: 0 decodes in the training process")
        self.folder = Path(folder).expanduser()
        self.size = height_width(size)
        self.resize_ratio = resize_ratio
        self.num_workers = max(0, min(16, (os.cpu_count() or 1) - 1)) if num_workers is None else num_workers

    def open_data(self) -> Opened:
        """Lists the files of both parts."""
        mean, std = self.mean or MEAN, self.std or STD
        parts = [self._part(name) for name in ("train", "val")]
        if parts[0].classes != parts[1].classes:
            different = sorted(set(parts[0].classes) ^ set(parts[1].classes))
            raise ValueError(
                f"expected the same classes in train and val of {self.folder}, got {different} in one only"
            )
        evaluation = _evaluation_view(self.size, self.resize_ratio, mean, std)
        training = _training_view(self.size, mean, std) if self.augment else evaluation
        train, test = (
            FolderSource(dataset=part, training_view=training, evaluation_view=evaluation, num_workers=self.num_workers)
            for part in parts
        )
        return Opened(train=train, test=test, class_names=parts[0].classes, image_size=self.size, mean=mean, std=std)

    def _part(self, name: str) -> TorchvisionFolder:
        folder = self.folder / name
        if not folder.is_dir():
            raise ValueError(f"expected a folder {folder} with one sub-folder a class, got none: check `folder`")
        return TorchvisionFolder(folder)


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderSource:
    """Batches of image files, decoded and transformed by worker processes.

    Args:
        dataset: The files; gives Pillow images.
        training_view: Transform of training images; what it draws from torch's generator is seeded for each sample.
        evaluation_view: Transform of evaluation images.
        num_workers: Decoding processes; 0 decodes in this one.
    """

    dataset: TorchvisionFolder
    training_view: Callable[[Any], Tensor]
    evaluation_view: Callable[[Any], Tensor]
    num_workers: int

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class of every file."""
        return np.asarray(self.dataset.targets, dtype=np.int64)

    def batches(self, index_batches: Sequence[Indices], *, stream: tuple[int, ...] | None) -> Iterator[Batch]:
        """Yields the batches of the given samples; see `BatchSource.batches`."""
        view = self.evaluation_view if stream is None else self.training_view
        loader = DataLoader(
            _Views(self.dataset, view, stream),
            batch_sampler=[indices.tolist() for indices in index_batches],
            num_workers=self.num_workers,
            generator=torch.Generator(),  # the global one would be advanced
        )
        yield from map(tuple, loader)


class _Views(Dataset[tuple[Tensor, int]]):
    def __init__(
        self, dataset: TorchvisionFolder, view: Callable[[Any], Tensor], stream: tuple[int, ...] | None
    ) -> None:
        self.dataset, self.view, self.stream = dataset, view, stream

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        try:
            image, label = self.dataset[index]
        except (OSError, SyntaxError, UnidentifiedImageError) as error:
            raise ValueError(
                f"expected an image that Pillow can decode, got {self.dataset.samples[index][0]}"
            ) from error
        # Only the CPU's generator: torch.manual_seed would re-seed the accelerators too, and fork_rng not restore them
        with torch.random.fork_rng(devices=[]):
            if self.stream is not None:
                seed = np.random.SeedSequence((*self.stream, index)).generate_state(1, np.uint64)[0]
                torch.default_generator.manual_seed(int(seed))
            return self.view(image), label


def _training_view(size: tuple[int, int], mean: Statistics, std: Statistics) -> v2.Transform:
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *_to_normalised(mean, std)])


def _evaluation_view(size: tuple[int, int], ratio: float, mean: Statistics, std: Statistics) -> v2.Transform:
    short_side = round(max(size) * ratio)
    return v2.Compose([v2.Resize(short_side), v2.CenterCrop(size), *_to_normalised(mean, std)])


def _to_normalised(mean: Statistics, std: Statistics) -> list[v2.Transform]:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
