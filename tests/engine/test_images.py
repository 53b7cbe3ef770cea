"""Images in 8 bits come back within half a level."""

import pytest
import torch

from supermix_pl.engine.stream.images import LEVELS, dequantize, quantize


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_error_is_at_most_half_a_level(scale: float) -> None:
    images = scale * torch.randn(5, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    levels, lowest, step = quantize(images)
    assert levels.dtype == torch.uint8
    ranges = images.amax(dim=(2, 3)) - images.amin(dim=(2, 3))
    torch.testing.assert_close(step, ranges / LEVELS)
    error = (dequantize(levels, lowest, step) - images).abs().amax(dim=(2, 3))
    assert (error <= step * 0.501).all()
    assert (error > 0.3 * step).all()  # it is 8 bits that are kept


def test_images_of_256_levels_come_back_to_rounding() -> None:
    pixels = torch.arange(256.0).view(1, 1, 16, 16) / 255
    images = (pixels - 0.5) / 0.25
    torch.testing.assert_close(dequantize(*quantize(images)), images, rtol=0, atol=1e-6)


def test_a_flat_channel_comes_back() -> None:
    images = torch.full((2, 1, 3, 3), -0.7)
    assert dequantize(*quantize(images)).equal(images)
