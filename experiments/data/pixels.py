"""Between normalised images and the pixels that they are shown and stored as."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Normalisation:
    """What a data set's images are normalised with."""

    mean: Sequence[float]  # mean of each channel, on the scale [0, 1]
    std: Sequence[float]  # standard deviation of each channel, on the scale [0, 1]

    def normalise(self, pixels: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the images of pixels, in float32."""
        mean, std = self._on(pixels.device)
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)

    def pixels(self, images: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
        """Return the nearest pixels to images, 0 to 255."""
        mean, std = self._on(images.device)
        # Float32 on the way: bfloat16 does not tell 256 grey levels apart
        return ((images.float() * std + mean) * 255).round_().clamp_(0, 255).to(torch.uint8)

    def _on(self, device: torch.device) -> tuple[Float[Tensor, "c 1 1"], Float[Tensor, "c 1 1"]]:
        mean, std = (torch.tensor(list(values), dtype=torch.float32, device=device) for values in (self.mean, self.std))
        return mean[:, None, None], std[:, None, None]
