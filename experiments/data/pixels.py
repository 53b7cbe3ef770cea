"""Between normalised images and the pixels that they are shown and stored as."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Normalisation:
    """What a data set's images are normalised with."""

    mean: Sequence[float]  # mean of each channel, on the scale [0, 1]
    std: Sequence[float]  # standard deviation of each channel, on the scale [0, 1]

    def normalise(self, pixels: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the images of pixels, in float32: the same to the bit on every device."""
        white, mean, std = self.constants(pixels.device)
        return pixels.to(torch.float32).div_(white).sub_(mean).div_(std)

    @property
    def mean_pixel(self) -> UInt8[np.ndarray, " c"]:
        """Return the pixel nearest to the mean; within half a grey level of 0 once normalised."""
        return np.round(255 * np.asarray(self.mean)).clip(0, 255).astype(np.uint8)

    def constants(self, device: torch.device) -> tuple[Tensor, Float[Tensor, "c 1 1"], Float[Tensor, "c 1 1"]]:
        """Return white, mean and std on a device, where they stay."""
        return _constants(tuple(self.mean), tuple(self.std), device)

    def pixels(self, images: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
        """Return the nearest pixels to images, 0 to 255."""
        _, mean, std = self.constants(images.device)
        # Float32 on the way: bfloat16 does not tell 256 grey levels apart
        return ((images.float() * std + mean) * 255).round_().clamp_(0, 255).to(torch.uint8)


@lru_cache
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Float[Tensor, "1 1 1"], Float[Tensor, "c 1 1"], Float[Tensor, "c 1 1"]]:
    """Return white, mean and std on a device: CUDA divides by a Python number less exactly than by a tensor."""
    with torch.inference_mode(False):  # they outlive the validation that may ask first
        white, *both = (torch.tensor(values, dtype=torch.float32, device=device) for values in ((255.0,), mean, std))
        return white[:, None, None], both[0][:, None, None], both[1][:, None, None]
