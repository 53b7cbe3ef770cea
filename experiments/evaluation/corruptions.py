"""Common corruptions of small images, with torchvision's transforms where it has them."""

import io
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

Pixels = UInt8[Tensor, "b 3 h w"]
_Corruption = Callable[[Pixels, float, torch.Generator], Pixels]


def _gaussian_noise(pixels: Pixels, sigma: float, generator: torch.Generator) -> Pixels:
    noise = torch.randn(pixels.shape, generator=generator).to(pixels.device)
    return _rounded(pixels.float() + 255 * sigma * noise)


def _shot_noise(pixels: Pixels, photons: float, generator: torch.Generator) -> Pixels:
    counts = torch.poisson(pixels.float().cpu() / 255 * photons, generator=generator)
    return _rounded(counts.to(pixels.device) / photons * 255)


def _impulse_noise(pixels: Pixels, share: float, generator: torch.Generator) -> Pixels:
    draws = torch.rand(pixels.shape, generator=generator).to(pixels.device)
    return pixels.masked_fill(draws < share / 2, 0).masked_fill(draws > 1 - share / 2, 255)


def _jpeg(pixels: Pixels, quality: float, generator: torch.Generator) -> Pixels:
    """Encode and decode images, with Pillow: torchvision is giving its codecs up."""
    shown = []
    for image in pixels.cpu():
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, format="JPEG", quality=int(quality))
        shown.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(shown).to(pixels.device)


_CORRUPTIONS: dict[str, tuple[_Corruption, tuple[float, float, float]]] = {
    "gaussian_noise": (_gaussian_noise, (0.04, 0.08, 0.12)),  # deviation, on the scale [0, 1]
    "shot_noise": (_shot_noise, (500, 100, 50)),  # photons of a white pixel
    "impulse_noise": (_impulse_noise, (0.01, 0.03, 0.06)),  # share of the values that turn black or white
    "gaussian_blur": (  # deviation, in pixels
        lambda pixels, sigma, _: transforms.gaussian_blur(
            pixels, kernel_size=[2 * round(3 * sigma) + 1] * 2, sigma=[sigma] * 2
        ),
        (0.5, 0.8, 1.2),
    ),
    # added, on the scale [0, 1]
    "brightness": (lambda pixels, added, _: _rounded(pixels.float() + 255 * added), (0.1, 0.2, 0.3)),
    # factor about the image's mean grey
    "contrast": (lambda pixels, factor, _: transforms.adjust_contrast(pixels, factor), (0.7, 0.5, 0.3)),
    # factor; 0 is grey
    "saturation": (lambda pixels, factor, _: transforms.adjust_saturation(pixels, factor), (0.6, 0.3, 0.0)),
    "jpeg": (_jpeg, (80, 50, 25)),  # quality
}
SEVERITIES = {name: strengths for name, (_, strengths) in _CORRUPTIONS.items()}
CORRUPTIONS = tuple(SEVERITIES)


def corrupt(pixels: Pixels, name: str, severity: int, *, seed: int) -> Pixels:
    """Return corrupted images of the same size: pixels 0 to 255, at severity 1, 2 or 3 of `SEVERITIES`.

    The noise is a function of the seed and of the images' number and size alone.
    """
    corruption, strengths = _CORRUPTIONS[name]
    return corruption(pixels, strengths[severity - 1], torch.Generator().manual_seed(seed))


def _rounded(values: Tensor) -> Pixels:
    return values.round_().clamp_(0, 255).to(torch.uint8)
