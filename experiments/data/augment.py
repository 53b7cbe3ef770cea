"""Training views of decoded images, a batch at a time: the interface, and crop, flip, policy and Cutout in a row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int16, Shaped, UInt8
from torch import Tensor

from supermix_pl.arguments import check_at_least
from supermix_pl.solver.rows import to_device
from supermix_pl.transforms import RandomCropFlip

Draws = Shaped[np.ndarray, "n *_"]
Pixels = UInt8[Tensor, "b c h w"]
Colour = UInt8[np.ndarray, " c"]


@runtime_checkable
class Augmentation(Protocol):
    """A random view of images of one size.

    Drawing is apart from applying: one call draws for every sample of an epoch, so a sample's view does not depend on
    the batch, the order, the rank or the device that meets it, and no global generator is touched.
    """

    @property
    def on_host(self) -> bool:
        """Whether it takes images one by one, which many small kernels would make slow on a GPU."""
        ...

    def draw(self, generator: np.random.Generator, count: int) -> Draws:
        """Draws what chance has to say about `count` views, one row a view."""
        ...

    def apply(self, images: Pixels, draws: Draws, *, fill: Colour) -> Pixels:
        """Return new images, on the device of the given ones: the views that the rows of `draws` describe.

        `fill` is the mean pixel of the data.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class CropFlip:
    """Random crop with zero padding and horizontal flip."""

    padding: int = 4  # black pixels added on every side before the crop, >= 0; 0 turns the crop off
    flip: bool = True  # whether half of the views are mirrored
    on_host = False

    def __post_init__(self) -> None:
        check_at_least("padding", self.padding, 0)

    def draw(self, generator: np.random.Generator, count: int) -> Int16[np.ndarray, "n 3"]:
        """Draws top offset, left offset and flip (0 or 1) of `count` views."""
        offsets = generator.integers(0, 2 * self.padding, size=(count, 2), endpoint=True, dtype=np.int16)
        flips = generator.integers(0, int(self.flip), size=(count, 1), endpoint=True, dtype=np.int16)
        return np.concatenate([offsets, flips], axis=1)

    def apply(self, images: Pixels, draws: Int16[np.ndarray, "b 3"], *, fill: Colour | None = None) -> Pixels:
        """Return the views that `draws` describes; the padding is black, whatever `fill` says."""
        return RandomCropFlip(self.padding).apply(images, to_device(draws, images.device))


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """Cutout (DeVries and Taylor, 2017): a square around a random pixel, in the data's mean colour."""

    size: int = 16  # side of the square in pixels, >= 1; an odd one is lowered by 1, as in the published code
    on_host = False

    def __post_init__(self) -> None:
        check_at_least("size", self.size, 1)

    def draw(self, generator: np.random.Generator, count: int) -> Float64[np.ndarray, "n 2"]:
        """Draws the row and the column of `count` centres, as parts of height and width in [0, 1)."""
        return generator.random((count, 2))

    def apply(self, images: Pixels, draws: Float64[np.ndarray, "b 2"], *, fill: Colour) -> Pixels:
        """Return the images with their squares in the colour `fill`."""
        return cut_out(images, draws, size=self.size, fill=fill)


def cut_out(images: Pixels, centres: Float64[np.ndarray, "b 2"], *, size: int, fill: Colour) -> Pixels:
    """Return images with a square around a pixel of each painted over; its place is in parts of height and width."""
    sides = (_near(images.shape[2 + axis], centres[:, axis], size // 2) for axis in range(2))
    rows, columns, colour = (to_device(values, images.device) for values in (*sides, fill))
    inside = (rows[:, :, None] & columns[:, None, :])[:, None]
    return torch.where(inside, colour[:, None, None], images)


def _near(side: int, centre: Float64[np.ndarray, " b"], half: int) -> Bool[np.ndarray, "b side"]:
    """Whether each of `side` pixels lies in [centre - half, centre + half)."""
    distance = np.arange(side) - np.floor(centre * side)[:, None]
    return (distance >= -half) & (distance < half)


@dataclass(frozen=True, kw_only=True)
class SmallImageView:
    """The training view of CIFAR in augmentation papers: crop and flip, a policy, Cutout, in this order."""

    crop_flip: CropFlip = field(default_factory=CropFlip)
    policy: Augmentation | None = None  # AutoAugment, Fast AutoAugment or RandAugment; `None` for none
    cutout: int = 0  # side of the square that is cut out, in pixels; 0 for none, 16 is usual on CIFAR

    def __post_init__(self) -> None:
        check_at_least("cutout", self.cutout, 0)

    @property
    def on_host(self) -> bool:
        """Whether there is a policy, which takes images one by one."""
        return self.policy is not None

    @cached_property
    def steps(self) -> Mapping[str, Augmentation]:
        """What is done, in its order."""
        cutout = Cutout(size=self.cutout) if self.cutout else None
        steps = {"crop_flip": self.crop_flip, "policy": self.policy, "cutout": cutout}
        return {name: step for name, step in steps.items() if step is not None}

    def draw(self, generator: np.random.Generator, count: int) -> Shaped[np.ndarray, " n"]:
        """Draws for every step, into a structured array of one field a step."""
        parts = {name: step.draw(generator, count) for name, step in self.steps.items()}
        draws = np.empty(count, dtype=[(name, part.dtype, part.shape[1:]) for name, part in parts.items()])
        for name, part in parts.items():
            draws[name] = part
        return draws

    def apply(self, images: Pixels, draws: Shaped[np.ndarray, " b"], *, fill: Colour) -> Pixels:
        """Return the views that `draws` describes."""
        for name, step in self.steps.items():
            images = step.apply(images, draws[name], fill=fill)
        return images
