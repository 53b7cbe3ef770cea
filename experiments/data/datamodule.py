"""What every data module here has in common: attributes, subsets, loaders."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from supermix_pl.arguments import check_at_least, check_share
from supermix_pl.experiments.data.augment import Augmentation, CropFlip
from supermix_pl.experiments.data.loader import ResumableLoader
from supermix_pl.experiments.data.pixels import CPU, Normalisation
from supermix_pl.experiments.data.source import ArraySource, BatchSource

_MOST_BYTES = 2**32
Statistics = tuple[float, float, float]
LabelledImages = tuple[UInt8[np.ndarray, "_ 3 _ _"], Int64[np.ndarray, " _"]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A data set that is ready to give batches, of training images, of test images, or of both."""

    train: BatchSource | None
    test: BatchSource | None
    class_names: list[str]  # in the order of the labels
    image_size: tuple[int, int]  # height and width of what the loaders give
    normalisation: Normalisation  # of the sources


@dataclass(kw_only=True, eq=False, repr=False)
class ImageDataModule(pl.LightningDataModule):
    """Base of the data modules: batches are (normalised images (b, 3, h, w), labels (b,)).

    After `setup` the attributes `num_classes`, `class_names`, `image_size`, `mean` and `std` describe the data.
    Training order and views depend on (seed, epoch, sample) alone, and a checkpoint within an epoch resumes exactly.
    With a trainer, batches are made on its device, or sent there as bytes and normalised there.

    By default the validation images *are* the test images: the paper reports its best epoch on them. Give
    `validation_fraction` to choose on held-out training images instead.
    """

    batch_size: int = 128  # training images in a batch, on each device
    eval_batch_size: int = 500  # validation and test images in a batch
    seed: int = 0  # of the order and of the training views, >= 0
    # Of what is drawn once: the held-out part and the subset. Apart from `seed`, so that runs of several seeds train on
    # the same images; None for `seed`, so that each has images of its own
    data_seed: int | None = 0
    # Whether training images come in a random view: padding 4 and flip for True, or as an `Augmentation` says
    augment: Augmentation | bool = True
    images_per_class: int | None = None  # size of the training subset in each class; None for everything
    validation_fraction: float = 0.0  # part of each class's training images, in [0, 1), that is held out for validation
    drop_last: bool = False  # whether a last, smaller training batch is left out
    # Training batches of an epoch, which then goes over the images pass after pass; None for one pass. For few images,
    # of which a pass is too short to validate or to save after
    epoch_batches: int | None = None
    with_indices: bool = False  # whether training batches are (images, labels, indices), indices of `train_labels`
    # of each channel on the scale [0, 1], for normalisation; None for the data's own
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None  # standard deviation, likewise

    def __post_init__(self) -> None:
        pl.LightningDataModule.__init__(self)
        if self.data_seed is None:
            self.data_seed = self.seed
        least = {"batch_size": 1, "eval_batch_size": 1, "seed": 0, "data_seed": 0, "images_per_class": 1}
        for name, smallest in (least | {"epoch_batches": 1}).items():
            if getattr(self, name) is not None:
                check_at_least(name, getattr(self, name), smallest)
        check_share("validation_fraction", self.validation_fraction)
        self.mean, self.std = three("mean", self.mean), three("std", self.std)
        self._opened: Opened | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the images out: spawned processes open them again."""
        return {**self.__dict__, "_opened": None}

    def open_data(self) -> Opened:
        """Opens the data set; called once in each process. For subclasses to write."""
        raise NotImplementedError(f"expected {type(self).__name__} to define open_data")

    def setup(self, stage: str | None = None) -> None:
        """Opens the data, whatever the stage."""
        if self._opened is None:
            self._opened = self.open_data()
            self.mean, self.std = self._opened.normalisation.mean, self._opened.normalisation.std

    def with_all_images(self) -> "ImageDataModule":
        """Return a copy that trains on every training image that is not held out, in epochs of one pass."""
        other = copy.copy(self)
        other.images_per_class, other.epoch_batches = None, None
        other._opened = self._opened
        return other

    @property
    def opened(self) -> Opened:
        """The data set.

        Raises:
            RuntimeError: Before `setup`.
        """
        if self._opened is None:
            raise RuntimeError("expected setup() before the data is asked for: call it, or let a Trainer do so")
        return self._opened

    @property
    def class_names(self) -> list[str]:
        return self.opened.class_names

    @property
    def num_classes(self) -> int:
        return len(self.opened.class_names)

    @property
    def image_size(self) -> tuple[int, int]:
        return self.opened.image_size

    def training_samples(self) -> tuple[BatchSource, Int64[np.ndarray, " m"]]:
        """Return the source of the training images, and the samples of it that are trained on."""
        source = self._source("train")
        return source, self._split(source)[0]

    def training_images(self) -> Float32[Tensor, "m 3 h w"]:
        """Return all images that are trained on, normalised, without augmentation.

        Raises:
            ValueError: If they take more than 4 GiB.
        """
        source, indices = self.training_samples()
        needed = 12 * len(indices) * self.image_size[0] * self.image_size[1]
        if needed > _MOST_BYTES:
            raise ValueError(
                f"expected training images of {_MOST_BYTES} bytes at most to hold them all, got {needed}; mix those of "
                "earlier batches, engine.sources=null"
            )
        return torch.cat([batch[0] for batch in self._loader(source, indices, training=False)])

    @property
    def train_labels(self) -> Int64[np.ndarray, " m"]:
        """Classes of the images that are trained on, in the order of the indices of `with_indices`."""
        source, indices = self.training_samples()
        return source.labels[indices]

    def train_dataloader(self) -> ResumableLoader:
        """Return the training batches."""
        return self._loader(*self.training_samples(), training=True)

    def val_dataloader(self) -> ResumableLoader:
        """Return the held-out training images or, without a validation fraction, the test images."""
        if self.validation_fraction == 0:
            return self.test_dataloader()
        source = self._source("train")
        return self._loader(source, self._split(source)[1], training=False)

    def test_dataloader(self) -> ResumableLoader:
        """Return the test images, in their order."""
        source = self._source("test")
        return self._loader(source, np.arange(len(source.labels)), training=False)

    def _opened_arrays(
        self,
        *,
        train: LabelledImages | None,
        test: LabelledImages | None,
        class_names: list[str],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> Opened:
        """Wraps decoded images; for subclasses. Statistics that the user gave win over the ones given here."""
        normalisation = Normalisation(self.mean or mean, self.std or std)
        augment = CropFlip() if self.augment is True else self.augment or None
        sources = [
            data and ArraySource(images=data[0], labels=data[1], normalisation=normalisation, augment=augment)
            for data in (train, test)
        ]
        sizes = {data[0].shape[2:] for data in (train, test) if data is not None}
        if len(sizes) != 1:
            raise ValueError(f"expected training and test images of one size, got {sizes}: give size")
        return Opened(
            train=sources[0],
            test=sources[1],
            class_names=class_names,
            image_size=sizes.pop(),
            normalisation=normalisation,
        )

    def _source(self, part: str) -> BatchSource:
        source = self.opened.train if part == "train" else self.opened.test
        if source is None:
            raise ValueError(
                f"expected {part} images, got a data set without any: add them, or use its other part only"
            )
        return source

    def _split(self, source: BatchSource) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " v"]]:
        return split_indices(
            source.labels,
            validation_fraction=self.validation_fraction,
            images_per_class=self.images_per_class,
            seed=self.data_seed or 0,
        )

    def _loader(self, source: BatchSource, indices: Int64[np.ndarray, " m"], *, training: bool) -> ResumableLoader:
        trainer = self.trainer
        return ResumableLoader(
            source,
            indices=indices,
            batch_size=self.batch_size if training else self.eval_batch_size,
            seed=self.seed,
            shuffle=training and not getattr(trainer, "overfit_batches", 0),
            augment=training,
            drop_last=training and self.drop_last,
            with_indices=training and self.with_indices,
            epoch_batches=self.epoch_batches if training else None,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            device=trainer.strategy.root_device if trainer else CPU,
            clock=self._clock if trainer and training else None,
        )

    def _clock(self) -> tuple[int, int]:
        trainer = self.trainer
        assert trainer is not None
        batches = trainer.fit_loop.epoch_loop.batch_progress.current
        return trainer.current_epoch, batches.processed  # pyright: ignore[reportAttributeAccessIssue]


def three(name: str, values: Sequence[float] | None) -> Statistics | None:
    """Return checked statistics of three channels, if there are any."""
    if values is None:
        return None
    if len(values) != 3 or not all(map(math.isfinite, values)) or (name == "std" and min(values) <= 0):
        above = ", above 0" if name == "std" else ""
        raise ValueError(f"expected {name} of three channels, finite{above}, got {list(values)}")
    return float(values[0]), float(values[1]), float(values[2])


def split_indices(
    labels: Int64[np.ndarray, " n"], *, validation_fraction: float, images_per_class: int | None, seed: int
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " v"]]:
    """Chooses training and validation samples, class by class.

    Raises:
        ValueError: If a class has too few samples.
    """
    train, validation = [], []
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    for label, members in enumerate(by_class):
        members = np.random.default_rng([seed, label]).permutation(members)
        num_held = round(validation_fraction * len(members))
        if validation_fraction > 0 and len(members) > 1:
            num_held = max(num_held, 1)
        kept = members[num_held:][:images_per_class]
        if len(members) and len(kept) < (images_per_class or 1):
            raise ValueError(
                f"expected at least {images_per_class or 1} training images of class {label}, got {len(kept)} of "
                f"{len(members)} beside {num_held} held out: lower images_per_class or validation_fraction"
            )
        train.append(kept)
        validation.append(members[:num_held])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(validation))
