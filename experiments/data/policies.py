"""AutoAugment and RandAugment: torchvision's classes, image by image, chance from the draws alone; also on mixes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torchvision.transforms import v2

from supermix_pl.arguments import check_at_least, check_one_of
from supermix_pl.transforms import PerImage, RandomCropFlip

_BINS = 31  # RandAugment's magnitudes


class TorchvisionPolicy(ABC):
    """A random transform of torchvision's kind, on a batch: one seed an image, and one call.

    torchvision draws once a call, which would give all images of a batch one policy; and it draws from the global
    generator, which is put back here.
    """

    on_host = True

    @abstractmethod
    def torchvisions(self) -> Callable[[Tensor], Tensor]:
        """Return the transform, from pixels (3, h, w) to pixels, which draws from torch's generator."""

    def draw(self, generator: np.random.Generator, count: int) -> Int64[np.ndarray, " n"]:
        """Draws the seeds of `count` views, of 32 bits, which is what torch's generator on the CPU makes use of."""
        return generator.integers(2**32, size=count)

    def apply(
        self,
        images: UInt8[Tensor, "b 3 h w"],
        draws: Int64[np.ndarray, " b"],
        *,
        fill: UInt8[np.ndarray, "3"] | None = None,
    ) -> UInt8[Tensor, "b 3 h w"]:
        """Return the views of the seeds; what moves in from outside is black, whatever `fill` says."""
        transform, views = self.torchvisions(), torch.empty_like(images)
        # Only the CPU's generator: torch.manual_seed would re-seed the accelerators too, and fork_rng not restore them
        with torch.random.fork_rng(devices=[]):
            for place, (image, seed) in enumerate(zip(images, draws.tolist(), strict=True)):
                torch.default_generator.manual_seed(seed)
                views[place] = transform(image)
        return views


@dataclass(frozen=True, kw_only=True)
class RandAugment(TorchvisionPolicy):
    """RandAugment (Cubuk et al., 2020): operations at random, all of one strength.

    It is `torchvision.transforms.v2.RandAugment`, on its scale: magnitude M of 0 ... 30 (`num_magnitude_bins=31`)
    is M / 30 of every operation's range, half of the changes negative. timm counts to 10 instead. Published: N = 2,
    M = 14 for WRN-28-10 on CIFAR-100, N = 2, M = 9 for ResNet-50 on ImageNet.
    """

    num_ops: int = 2  # N, operations in a row for each image, >= 1
    magnitude: int = 9  # M, 0 to 30

    def __post_init__(self) -> None:
        check_at_least("num_ops", self.num_ops, 1)
        largest = _BINS - 1
        if not 0 <= self.magnitude <= largest:
            raise ValueError(f"expected 0 <= magnitude <= {largest}, got {self.magnitude}: it is a part of {largest}")

    def torchvisions(self) -> v2.RandAugment:
        return v2.RandAugment(num_ops=self.num_ops, magnitude=self.magnitude, num_magnitude_bins=_BINS)


@dataclass(frozen=True, kw_only=True)
class AutoAugment(TorchvisionPolicy):
    """AutoAugment (Cubuk et al., 2019) with one of its published policies: `torchvision.transforms.v2.AutoAugment`."""

    policy: Literal["cifar10", "imagenet"]  # the former is also used on CIFAR-100

    def __post_init__(self) -> None:
        check_one_of("policy", self.policy, ("cifar10", "imagenet"))

    def torchvisions(self) -> v2.AutoAugment:
        return v2.AutoAugment(v2.AutoAugmentPolicy(self.policy))


def mixed_rand_augment(
    *,
    mean: Sequence[float],
    std: Sequence[float],
    num_ops: int = 2,
    magnitude: int = 14,
    padding: int | None = None,
    flip_probability: float = 0.5,
) -> v2.Compose:
    """Return crop and flip, then RandAugment on 0 ... 255, of every mix: for `SuperMixCallback(mixed_transform=...)`.

    The batch is normalised with mean and std; the other arguments are those of `RandAugment` and `RandomCropFlip`.
    """
    policy = RandAugment(num_ops=num_ops, magnitude=magnitude).torchvisions()
    to_bytes, to_floats = v2.ToDtype(torch.uint8, scale=True), v2.ToDtype(torch.float32, scale=True)
    on_pixels = PerImage(v2.Compose([to_bytes, policy, to_floats]), mean, std)
    return v2.Compose([RandomCropFlip(padding, flip_probability), on_pixels])
