"""The Gaussian against a plain convolution."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from supermix_pl.solver.smoothing import smooth
from tests import oracle


def convolve(grids: Tensor, sigma: float) -> Tensor:
    """A two-dimensional Gaussian of radius ceil(3 sigma) over a grid with zeros around it."""
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(grids)
    return F.conv2d(grids.flatten(0, -3).unsqueeze(1), kernel[None, None], padding=radius).view_as(grids)


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 1.7, 2.0, 5.0])
@pytest.mark.parametrize("grid", [(8, 8), (3, 7), (16, 1), (1, 1)])
def test_equals_a_convolution_with_zero_padding(grid: tuple[int, int], sigma: float) -> None:
    grids = torch.randn(2, 3, *grid, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(smooth(grids, sigma), convolve(grids, sigma), rtol=1e-10, atol=1e-12)
    expected = torch.from_numpy(oracle.smooth(grids[1, 2].numpy(), sigma))
    torch.testing.assert_close(smooth(grids, sigma)[1, 2], expected, rtol=1e-10, atol=1e-12)


def test_sigma_0_changes_nothing() -> None:
    grids = torch.randn(2, 3, 4, 4)
    assert torch.equal(smooth(grids, 0.0), grids)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 3.0])
def test_spreads_a_point_evenly_to_all_sides(sigma: float) -> None:
    point = torch.zeros(1, 41, 41, dtype=torch.float64)
    point[0, 20, 20] = 1.0
    spread = smooth(point, sigma)
    torch.testing.assert_close(spread, spread.flip(1))
    torch.testing.assert_close(spread, spread.flip(2))
    torch.testing.assert_close(spread, spread.transpose(1, 2))
    torch.testing.assert_close(spread.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert spread.argmax() == point.argmax()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_dtype(dtype: torch.dtype) -> None:
    assert smooth(torch.zeros(1, 4, 4, dtype=dtype), 1.0).dtype == dtype
