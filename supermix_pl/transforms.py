"""Transforms of a batch of mixes, one draw an image: views that a solver can see through, and a wrapper for others."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import pad

from supermix_pl.arguments import (
    check_at_least,
    check_interval,
    check_probability,
    check_statistics,
    check_transform,
    find_strays,
    hold_floats,
)

_SIXTEENTH = 16
_LARGEST_KEY = 2**62

# Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014 (splitmix64), as signed integers
_GOLDEN, _FIRST, _SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685

_Integers = TypeVar("_Integers", Tensor, np.ndarray)


def uniforms(keys: Int[Tensor, " b"], rounds: Int[Tensor, " b"], count: int) -> Float[Tensor, "b count"]:
    """Return the numbers of a key and a round, which depend on these alone, so that rows can be computed in any order.

    Each is uniform over the keys. Those of the successive rounds of a key lie evenly: they are an additive recurrence
    from a start that the key draws (Cranley & Patterson, SIAM J. Numer. Anal. 1976). So a few views of an image say
    more of all of them than as many independent ones.

    Keys and rounds are int64. The numbers are in [0, 1), in steps of 2**-24, and the same on every device.
    """
    offsets, steps = _recurrence(count, keys.device)
    if keys.device.type == "cpu":  # arrays of this size are quicker than tensors
        drawn = torch.from_numpy(_numbers(keys.numpy(), rounds.numpy(), offsets.numpy(), steps.numpy()))
    else:
        drawn = _numbers(keys, rounds, offsets, steps)
    return drawn.float() / 2**24


def _numbers(keys: _Integers, rounds: _Integers, offsets: _Integers, steps: _Integers) -> _Integers:
    """Return the numbers in [0, 2**24)."""
    starts = _scramble(_scramble(keys + _GOLDEN)[:, None] + offsets)
    return _shifted(starts + rounds[:, None] * steps, 40)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _recurrence(count: int, device: torch.device) -> Int[Tensor, "2 count"]:
    """Return what sets the numbers of a key apart, and the shares of 1 by which they grow from round to round.

    As signed integers of 64 bits.
    All but the last are powers of the root of x**count = x + 1; the last is the golden ratio's. With the last for the
    mirror, 12 looks at an image see 12 of its 25 shifts by two pixels, and each side five to seven times.
    """
    steps = [_root(count) ** -power for power in range(1, count)] + [1 / _root(2)]
    offsets = torch.arange(1, count + 1) * _GOLDEN
    return torch.stack([offsets, torch.tensor([_signed(step) for step in steps])]).to(device)


def _root(degree: int) -> float:
    """Return the positive root of x**degree = x + 1."""
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / degree)
    return root


def _signed(share: float) -> int:
    return (round(share * 2**64) + 2**63) % 2**64 - 2**63


def _scramble(values: _Integers) -> _Integers:
    values = (values ^ _shifted(values, 30)) * _FIRST
    values = (values ^ _shifted(values, 27)) * _SECOND
    return values ^ _shifted(values, 31)


def _shifted(values: _Integers, bits: int) -> _Integers:
    """Shift to the right as if the integers had no sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


class View(ABC):
    """A random transform with gradients, whose random draw is apart from its application.

    The draw of an image depends on its key and on the number of the look alone. So a solver that works on some of the
    rows, in chunks, or after a restart sees the same views. Subclasses must name all their settings in their repr:
    fixed mixes are identified by it.
    """

    @abstractmethod
    def draw(
        self, keys: Int[Tensor, " b"], rounds: Int[Tensor, " b"], size: tuple[int, int]
    ) -> Float[Tensor, "b p"] | Int[Tensor, "b p"]:
        """Draw the p parameters of one view for each image.

        Args:
            keys: A random seed for each image, int64.
            rounds: Which look this is, counted from 0.
            size: Height and width of the images in pixels.
        """

    @abstractmethod
    def apply(
        self, images: Float[Tensor, "b c h w"], parameters: Float[Tensor, "b p"] | Int[Tensor, "b p"]
    ) -> Float[Tensor, "b c h w"]:
        """Return the images under the views that were drawn."""

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the images under new views, drawn from torch's global generator as torchvision.transforms.v2 does."""
        keys = torch.randint(_LARGEST_KEY, (len(images),)).to(images.device)
        return self.apply(images, self.draw(keys, torch.zeros_like(keys), (images.shape[2], images.shape[3])))


@dataclass(frozen=True)
class RandomCropFlip(View):
    """Shift and mirror every image on its own: the paper's view of the mixes.

    Args:
        padding: Pixels of zeros added on every side before the crop, >= 0. None is a sixteenth of each side: 2 for
            images of 32 x 32, as in the authors' code.
        flip_probability: Share of the images that are mirrored, in [0, 1]. Choose 0 if a mirrored image has another
            class.

    Raises:
        ValueError: If an argument is out of its range.
    """

    padding: int | None = None
    flip_probability: float = 0.5

    def __post_init__(self) -> None:
        if self.padding is not None:
            check_at_least("padding", self.padding, 0)
        check_probability("flip_probability", self.flip_probability)
        hold_floats(self)

    def draw(self, keys: Int[Tensor, " b"], rounds: Int[Tensor, " b"], size: tuple[int, int]) -> Int[Tensor, "b 3"]:
        """Draw top, left and whether the image is mirrored."""
        numbers = uniforms(keys, rounds, 3)
        places = [(numbers[:, axis] * (2 * self._pixels(side) + 1)).long() for axis, side in enumerate(size)]
        return torch.stack([*places, (numbers[:, 2] < self.flip_probability).long()], dim=1)

    def apply(self, images: Shaped[Tensor, "b c h w"], parameters: Int[Tensor, "b 3"]) -> Shaped[Tensor, "b c h w"]:
        """Crop every padded image back to its size, and mirror some; pixels in bytes are exact too."""
        (height, width), device = images.shape[2:], images.device
        above, beside = self._pixels(height), self._pixels(width)
        tops, lefts, mirrored = parameters.unbind(1)
        across = torch.arange(width, device=device)
        columns = lefts[:, None] + torch.where(mirrored[:, None] > 0, width - 1 - across, across)
        rows = tops[:, None] + torch.arange(height, device=device)
        places = rows[:, :, None] * (width + 2 * beside) + columns[:, None, :]
        pixels = pad(images, [beside, beside, above, above]).flatten(2)
        return pixels.gather(2, places.flatten(1)[:, None].expand(-1, images.shape[1], -1)).view(images.shape)

    def _pixels(self, side: int) -> int:
        return max(1, round(side / _SIXTEENTH)) if self.padding is None else self.padding


@dataclass(frozen=True)
class RandomResizedCropFlip(View):
    """Cut out a part of every image, enlarge it to the image's size, and mirror some: a view for large images.

    Bilinear, as products with matrices: deterministic on every device, in the backward pass too.

    Args:
        scale: Least and largest share of the image's area that is kept, in (0, 1].
        ratio: Least and largest width / height of the part, relative to the image's, > 0.
        flip_probability: Share of the images that are mirrored, in [0, 1].

    Raises:
        ValueError: If an argument is out of its range.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_probability: float = 0.5

    def __post_init__(self) -> None:
        for name in ("scale", "ratio"):  # lists come from configs
            object.__setattr__(self, name, check_interval(name, getattr(self, name)))
        if self.scale[1] > 1:
            raise ValueError(f"expected scale in (0, 1], got {self.scale}")
        check_probability("flip_probability", self.flip_probability)
        hold_floats(self)

    def draw(self, keys: Int[Tensor, " b"], rounds: Int[Tensor, " b"], size: tuple[int, int]) -> Float[Tensor, "b 5"]:
        """Draw top, left, height and width of the part as shares of the sides, and whether the image is mirrored."""
        numbers = uniforms(keys, rounds, 5)
        area = self.scale[0] + numbers[:, 0] * (self.scale[1] - self.scale[0])
        lowest, highest = (math.log(ratio) for ratio in self.ratio)
        ratio = (lowest + numbers[:, 1] * (highest - lowest)).exp()
        height, width = (area / ratio).sqrt().clamp_max(1), (area * ratio).sqrt().clamp_max(1)
        mirrored = (numbers[:, 4] < self.flip_probability).float()
        return torch.stack([numbers[:, 2] * (1 - height), numbers[:, 3] * (1 - width), height, width, mirrored], dim=1)

    def apply(self, images: Float[Tensor, "b c h w"], parameters: Float[Tensor, "b 5"]) -> Float[Tensor, "b c h w"]:
        """Cut, resize and mirror."""
        top, left, height, width, mirrored = parameters.unbind(1)
        rows = _interpolation(top, height, images.shape[2])
        columns = _interpolation(left, width, images.shape[3])
        columns = torch.where(mirrored[:, None, None] > 0, columns.flip(1), columns)
        return rows[:, None].to(images) @ images @ columns[:, None].mT.to(images)


def _interpolation(start: Float[Tensor, " b"], extent: Float[Tensor, " b"], side: int) -> Float[Tensor, "b side side"]:
    """Bilinear weights that bring a part of a side, in shares of it, to the whole side."""
    pixels = torch.arange(side, device=start.device)
    centres = start[:, None] * side + (pixels + 0.5) * extent[:, None] - 0.5
    return (1 - (centres.clamp(0, side - 1)[:, :, None] - pixels).abs()).clamp_min(0)


class PerImage(nn.Module):
    """Apply a torchvision transform to every image on its own, in [0, 1], and normalise the result back.

    torchvision.transforms.v2 draws once a call, so all images of a batch would get one crop or one policy.

    Args:
        transform: Takes and returns an image (c, h, w) in [0, 1], such as torchvision.transforms.v2.RandAugment().
        mean: What the batch is normalised with, one value a channel; None if it is in [0, 1].
        std: Likewise, > 0.

    Raises:
        TypeError: If the transform cannot be called.
        ValueError: If mean comes without std; in the first call, if more than a fifth of the pixels lie outside [0, 1].
    """

    def __init__(
        self,
        transform: nn.Module | Callable[[Tensor], Tensor],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        check_transform("transform", transform)
        check_statistics(mean, std)
        super().__init__()
        self.transform = transform
        self._mean = torch.tensor([0.0] if mean is None else list(mean))[:, None, None]
        self._std = torch.tensor([1.0] if std is None else list(std))[:, None, None]
        self._judged = False

    def __repr__(self) -> str:
        mean, std = (values.flatten().tolist() for values in (self._mean, self._std))
        return f"PerImage({self.transform!r}, mean={mean}, std={std})"

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """De-normalise, transform one by one, normalise."""
        if len(self._mean) not in (1, images.shape[1]):
            raise ValueError(
                f"expected images with {len(self._mean)} channels, as mean and std have, got {images.shape[1]}"
            )
        mean, std = self._mean.to(images), self._std.to(images)
        pixels = images * std + mean
        self._judge(pixels)
        return (torch.stack([self.transform(image) for image in pixels.clamp(0, 1)]).to(images) - mean) / std

    def _judge(self, pixels: Float[Tensor, "b c h w"]) -> None:
        """Refuse images that other statistics belong to, until a batch is right: looking at them holds a GPU up."""
        if self._judged:
            return
        if strays := find_strays(pixels):
            share, least, largest = strays
            raise ValueError(
                f"expected pixels in [0, 1] where mean and std are undone, got {share:.0%} of them outside, from "
                f"{least:.2g} to {largest:.2g}; give PerImage mean and std of your batches"
            )
        self._judged = True
