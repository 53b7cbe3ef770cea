"""What is measured on: a teacher and the first images of a split, in the order of the files."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.transforms.v2.functional import center_crop

from supermix_pl import FrozenTeacher
from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.experiments import networks
from supermix_pl.experiments.data import ImageDataModule, Parquet, Shapes

_WEIGHT_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A teacher and images, by name, so that another process can open the same ones.

    The images are normalised with `mean` and `std`, as a data module gives them; the teacher takes them as they are.

    Args:
        network: Name in `supermix_pl.experiments.networks`, or `module:function` that gives an `nn.Module`.
        checkpoint: Its weights; None leaves it as it is built (untrained, if it is one of ours).
        data: Folder of Parquet shards, or "shapes", the embedded set.
        split: "train" or "test".
        num_images: How many images, from the first.
        mean: Per channel, on the scale [0, 1].
        std: Per channel, likewise.
        size: Side in pixels to which images are resized; None for that of the data.
        crop: Side in pixels of the part from the centre that is taken; None for the whole image.
    """

    network: str
    checkpoint: str | None
    data: str
    split: str
    num_images: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int | None = None
    crop: int | None = None

    def open(self, device: torch.device) -> tuple[FrozenTeacher, Float[Tensor, "n c h w"]]:
        """Load the teacher onto a device, and the images into main memory; see `open_labelled`."""
        teacher, images, _ = self.open_labelled(device)
        return teacher, images

    def open_labelled(self, device: torch.device) -> tuple[FrozenTeacher, Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Load the teacher onto a device, and the images with their labels into main memory.

        Raises:
            ValueError: If they are not there, or do not fit together.
        """
        images, labels, num_classes = self._images()
        teacher = FrozenTeacher(self._network(num_classes)).to(device)
        try:
            with torch.no_grad():
                teacher(images[:1].to(device))
        except RuntimeError as error:
            raise ValueError(
                f"the teacher {self.network} failed on an image of shape {tuple(images.shape[1:])} ({error}); give its "
                "image size with --size"
            ) from error
        return teacher, images, labels

    def _images(self) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"], int]:
        data = self._data_module()
        opened = data.open_data()
        source = opened.train if self.split == "train" else opened.test
        if source is None or len(source.labels) < self.num_images:
            there = 0 if source is None else len(source.labels)
            raise ValueError(f"expected {self.num_images} {self.split} images, got {there}; lower --images")
        images, labels = next(iter(source.batches([np.arange(self.num_images)], stream=None)))
        images = images if self.crop is None else center_crop(images, [self.crop, self.crop])
        return images, labels, len(opened.class_names)

    def _data_module(self) -> ImageDataModule:
        if self.data != "shapes":
            return Parquet(folder=self.data, size=self.size, mean=self.mean, std=self.std)
        sizes = (self.num_images, 1) if self.split == "train" else (1, self.num_images)
        return Shapes(train_size=sizes[0], test_size=sizes[1], size=self.size or 32, mean=self.mean, std=self.std)

    def _network(self, num_classes: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_WEIGHT_SEED)
            if ":" in self.network:
                network = find_function(self.network)()
                if not isinstance(network, nn.Module):
                    raise TypeError(f"expected an nn.Module from {self.network}, got {type(network).__name__}")
            else:
                network = getattr(networks, self.network)(num_classes=num_classes)
        return network if self.checkpoint is None else load_checkpoint(network, self.checkpoint)


def find_function(name: str) -> Callable[[], object]:
    """Find the function that `module:function` names.

    Raises:
        ValueError: If there is none.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"expected a function of no arguments at {name!r}, got: {error}") from error
    if not callable(found):
        raise ValueError(f"expected a function of no arguments at {name!r}, got {type(found).__name__}")
    return found
