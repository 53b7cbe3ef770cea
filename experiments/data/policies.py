"""Augmentation policies: sub-policies of operations, drawn for every image and applied to groups of equal ones."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8
from torchvision import transforms as torchvision_transforms

from supermix_pl.experiments.data.cutout import cut_out
from supermix_pl.experiments.data.operations import CUTOUT, Images, Operation, apply_operation

_LARGEST = 30  # RandAugment's largest magnitude
_COLUMNS = 4  # of one operation in a row of draws: whether, which sign, which row and column of the image

SubPolicy = tuple[Operation, ...]


class Policy(ABC):
    """Draws a sub-policy for every image, one or more times, and applies its operations in a row.

    Images that get the same operation are handled together, so that a batch takes a fraction of the time that its
    images would take one by one; the result is the same. Works on any device.
    """

    @abstractmethod
    def _listed(self) -> Sequence[SubPolicy]:
        """Returns the sub-policies; for subclasses to write."""

    @cached_property
    def sub_policies(self) -> Sequence[SubPolicy]:
        """What is drawn from, all equally likely."""
        return tuple(self._listed())

    @property
    def rounds(self) -> int:
        """How often a sub-policy is drawn for an image."""
        return 1

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.sub_policies))

    def draw(self, generator: np.random.Generator, count: int) -> Float64[np.ndarray, "n r d"]:
        """Draws numbers in [0, 1) for `count` images and every round: the sub-policy, and four for each operation."""
        return generator.random((count, self.rounds, 1 + _COLUMNS * self._longest))

    def apply(
        self,
        images: UInt8[np.ndarray, "b 3 h w"],
        draws: Float64[np.ndarray, "b r d"],
        *,
        fill: UInt8[np.ndarray, "3"],
    ) -> UInt8[np.ndarray, "b 3 h w"]:
        """Returns the views that `draws` describes; `fill` is the colour of Cutout."""
        return self.transform(torch.from_numpy(images), draws, fill=fill).numpy()

    def transform(self, images: Images, draws: Float64[np.ndarray, "b r d"], *, fill: UInt8[np.ndarray, "3"]) -> Images:
        """Returns the views that `draws` describes, as tensors on the device of the images."""
        images = images.clone()
        for numbers in draws.transpose(1, 0, 2):
            chosen = np.floor(numbers[:, 0] * len(self.sub_policies)).astype(np.int64)
            for step, columns in enumerate(np.split(numbers[:, 1:], self._longest, axis=1)):
                self._take_step(images, chosen, step, columns, fill)
        return images

    def _take_step(
        self,
        images: Images,
        chosen: Int64[np.ndarray, " b"],
        step: int,
        columns: Float64[np.ndarray, "b 4"],
        fill: UInt8[np.ndarray, "3"],
    ) -> None:
        """Writes the results of the operations at one place of the chosen sub-policies over the images."""
        for number in np.unique(chosen):
            sub_policy = self.sub_policies[number]
            if step >= len(sub_policy):
                continue
            operation = sub_policy[step]
            taken = (chosen == number) & (columns[:, 0] < operation.probability)
            negative = operation.mirrored & (columns[:, 1] < 0.5)
            for sign, group in ((1, taken & ~negative), (-1, taken & negative)):
                _write(images, group, operation, sign, columns[:, 2:], fill)


def _write(
    images: Images,
    group: Bool[np.ndarray, " b"],
    operation: Operation,
    sign: int,
    places: Float64[np.ndarray, "b 2"],
    fill: UInt8[np.ndarray, "3"],
) -> None:
    rows = np.flatnonzero(group)
    if not len(rows):
        return
    index = torch.from_numpy(rows).to(images.device)
    if operation.name == CUTOUT:
        size = round(operation.strength * images.shape[3])
        images[index] = cut_out(images[index], places[rows], size=size, fill=fill)
    else:
        images[index] = apply_operation(images[index], operation.name, sign * operation.strength)


@dataclass(frozen=True, kw_only=True)
class RandAugment(Policy):
    """RandAugment (Cubuk et al., 2020): operations at random, all of one strength.

    Operations, ranges and scale are those of `torchvision.transforms.v2.RandAugment`: magnitude M is M / 30 of every
    operation's range, half of the changes negative. timm counts to 10 instead. Published: N = 2, M = 14 for
    WRN-28-10 on CIFAR-100, N = 2, M = 9 for ResNet-50 on ImageNet.

    Args:
        num_ops: N, operations in a row for each image, at least 1.
        magnitude: M, 0 to 30.
    """

    num_ops: int = 2
    magnitude: int = 9

    def __post_init__(self) -> None:
        if self.num_ops < 1:
            raise ValueError(f"expected num_ops >= 1, got {self.num_ops}")
        if not 0 <= self.magnitude <= _LARGEST:
            raise ValueError(f"expected 0 <= magnitude <= {_LARGEST}, got {self.magnitude}: it is a part of {_LARGEST}")

    @property
    def rounds(self) -> int:
        """One round for each operation."""
        return self.num_ops

    def _listed(self) -> Sequence[SubPolicy]:
        names = ("Identity", *_RANGES, "Posterize", "Solarize", "AutoContrast", "Equalize")
        return [(_torchvision_operation(name, 1.0, self.magnitude, _LARGEST),) for name in names]


@dataclass(frozen=True, kw_only=True)
class AutoAugment(Policy):
    """AutoAugment (Cubuk et al., 2019) with one of its published policies, as torchvision has them.

    Args:
        policy: "cifar10" (also used on CIFAR-100) or "imagenet".
    """

    policy: Literal["cifar10", "imagenet"]

    def __post_init__(self) -> None:
        if self.policy not in ("cifar10", "imagenet"):
            raise ValueError(f"expected policy cifar10 or imagenet, got {self.policy!r}")

    def _listed(self) -> Sequence[SubPolicy]:
        kind = torchvision_transforms.AutoAugmentPolicy(self.policy)
        published = torchvision_transforms.AutoAugment(kind).policies
        return [
            tuple(_torchvision_operation(name, probability, magnitude or 0, 9) for name, probability, magnitude in pair)
            for pair in published
        ]


_RANGES = {
    "ShearX": 0.3,
    "ShearY": 0.3,
    "TranslateX": 150 / 331,
    "TranslateY": 150 / 331,
    "Rotate": 30.0,
    "Brightness": 0.9,
    "Color": 0.9,
    "Contrast": 0.9,
    "Sharpness": 0.9,
}


def _torchvision_operation(name: str, probability: float, magnitude: int, largest: int) -> Operation:
    """Returns an operation at a magnitude, 0 to `largest`, of the range that torchvision gives it."""
    # By linspace, in float32, as torchvision does: some pixels would differ by a grey level
    if name in _RANGES:
        strength = float(torch.linspace(0.0, _RANGES[name], largest + 1)[magnitude])
        return Operation(name=name, probability=probability, strength=strength, mirrored=True)
    strengths = {
        "Posterize": 8.0 - round(4 * magnitude / largest),
        "Solarize": 255 * float(torch.linspace(1.0, 0.0, largest + 1)[magnitude]),
    }
    return Operation(name=name, probability=probability, strength=strengths.get(name, 0.0))
