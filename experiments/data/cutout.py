"""Cutout (DeVries and Taylor, 2017): a square of every image is painted over."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from supermix_pl.experiments.data.transfer import send


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """A square around a random pixel, clipped at the border, in the data's mean colour: 0 after normalisation.

    Args:
        size: Side of the square in pixels, at least 1. An odd one is lowered by 1, as in the published code.
    """

    size: int = 16
    on_host: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"expected size >= 1, got {self.size}")

    def draw(self, generator: np.random.Generator, count: int) -> Float64[np.ndarray, "n 2"]:
        """Draws the row and the column of `count` centres, as parts of height and width in [0, 1)."""
        return generator.random((count, 2))

    def apply(
        self,
        images: UInt8[Tensor, "b c h w"],
        draws: Float64[np.ndarray, "b 2"],
        *,
        fill: UInt8[np.ndarray, " c"],
    ) -> UInt8[Tensor, "b c h w"]:
        """Return the images with their squares in the colour `fill`."""
        return cut_out(images, draws, size=self.size, fill=fill)


def cut_out(
    images: UInt8[Tensor, "b c h w"], centres: Float64[np.ndarray, "b 2"], *, size: int, fill: UInt8[np.ndarray, " c"]
) -> UInt8[Tensor, "b c h w"]:
    """Return images with a square around a pixel of each painted over.

    Args:
        images: Pixels, on any device.
        centres: Row and column, as parts of height and width in [0, 1).
        size: Side in pixels.
        fill: Colour of the squares.
    """
    sides = (_near(images.shape[2 + axis], centres[:, axis], size // 2) for axis in range(2))
    rows, columns, colour = (send(values, images.device) for values in (*sides, torch.from_numpy(fill)))
    inside = (rows[:, :, None] & columns[:, None, :])[:, None]
    return torch.where(inside, colour[:, None, None], images)


def _near(side: int, centre: Float64[np.ndarray, " b"], half: int) -> Tensor:
    """Whether each of `side` pixels lies in [centre - half, centre + half)."""
    distance = np.arange(side) - np.floor(centre * side)[:, None]
    return torch.from_numpy((distance >= -half) & (distance < half))
