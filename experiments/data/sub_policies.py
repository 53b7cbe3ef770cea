"""Policies of sub-policies, one drawn for every image, and applied to groups of images with equal operations."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float64, UInt8

from supermix_pl.experiments.data.cutout import cut_out
from supermix_pl.experiments.data.operations import CUTOUT, Images, Operation, apply_operation

_COLUMNS = 4  # of one operation in a row of draws: whether, which sign, which row and column of the image

SubPolicy = tuple[Operation, ...]


class Policy(ABC):
    """Draws a sub-policy for every image and applies its operations in a row.

    Images that get the same operation are handled together, so that a batch takes a fraction of the time that its
    images would take one by one; the result is the same.
    """

    @abstractmethod
    def _listed(self) -> Sequence[SubPolicy]:
        """Returns the sub-policies; for subclasses to write."""

    @cached_property
    def sub_policies(self) -> Sequence[SubPolicy]:
        """What is drawn from, all equally likely."""
        return tuple(self._listed())

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.sub_policies))

    def draw(self, generator: np.random.Generator, count: int) -> Float64[np.ndarray, "n d"]:
        """Draws numbers in [0, 1) for `count` images: the sub-policy, and four for each operation."""
        return generator.random((count, 1 + _COLUMNS * self._longest))

    def apply(
        self,
        images: UInt8[np.ndarray, "b 3 h w"],
        draws: Float64[np.ndarray, "b d"],
        *,
        fill: UInt8[np.ndarray, "3"],
    ) -> UInt8[np.ndarray, "b 3 h w"]:
        """Returns the views that `draws` describes; `fill` is the colour of Cutout."""
        views = torch.from_numpy(images).clone()
        chosen = np.floor(draws[:, 0] * len(self.sub_policies)).astype(np.int64)
        numbers = np.split(draws[:, 1:], self._longest, axis=1)
        for number in np.unique(chosen):
            for operation, columns in zip(self.sub_policies[number], numbers, strict=False):
                taken = (chosen == number) & (columns[:, 0] < operation.probability)
                negative = operation.mirrored & (columns[:, 1] < 0.5)
                for sign, group in ((1, taken & ~negative), (-1, taken & negative)):
                    _write(views, group, operation, sign, columns[:, 2:], fill)
        return views.numpy()


def _write(
    images: Images,
    group: Bool[np.ndarray, " b"],
    operation: Operation,
    sign: int,
    places: Float64[np.ndarray, "b 2"],
    fill: UInt8[np.ndarray, "3"],
) -> None:
    """Writes the result of an operation over the images of a group."""
    rows = np.flatnonzero(group)
    if not len(rows):
        return
    index = torch.from_numpy(rows)
    if operation.name == CUTOUT:
        size = round(operation.strength * images.shape[3])
        images[index] = cut_out(images[index], places[rows], size=size, fill=fill)
    else:
        images[index] = apply_operation(images[index], operation.name, sign * operation.strength)
