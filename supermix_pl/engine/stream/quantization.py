"""Images in 8 bits, each channel of each image over its own range."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

LEVELS = 255


def quantize(
    images: Float[Tensor, "b c h w"],
) -> tuple[UInt8[Tensor, "b c h w"], Float[Tensor, "b c"], Float[Tensor, "b c"]]:
    """Round images to 256 levels between the least and the greatest pixel of each channel.

    Returns:
        The levels, and per channel the value of level 0 and the step between levels, for `dequantize`. Its error is at
        most half a step.
    """
    lowest, highest = images.amin(dim=(2, 3)), images.amax(dim=(2, 3))
    step = ((highest - lowest) / LEVELS).clamp_min(torch.finfo(images.dtype).tiny)
    levels = (images - lowest[:, :, None, None]) / step[:, :, None, None]
    return levels.round().clamp(0, LEVELS).to(torch.uint8), lowest, step


def dequantize(
    levels: UInt8[Tensor, "b c h w"], lowest: Float[Tensor, "b c"], step: Float[Tensor, "b c"]
) -> Float[Tensor, "b c h w"]:
    """Return the images that `quantize` rounded."""
    return levels.to(step.dtype) * step[:, :, None, None] + lowest[:, :, None, None]
