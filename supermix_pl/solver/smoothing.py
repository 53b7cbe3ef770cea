"""The Gaussian g_sigma that keeps the updates of the masks smooth (Eq. 7)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from supermix_pl.solver.constants import constant


@constant
def _smoothing_matrix(length: int, sigma: float, device: torch.device) -> Float[Tensor, "length length"]:
    """Convolution with a normalised Gaussian of odd width along one zero-padded axis, as a matrix."""
    radius = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64, device=device) / sigma) ** 2)
    taps = taps / taps.sum()
    places = torch.arange(length, device=device)
    offset = places[:, None] - places + radius
    inside = (offset >= 0) & (offset <= 2 * radius)
    return torch.where(inside, taps[offset.clamp(0, 2 * radius)], 0.0)


def smooth(grids: Float[Tensor, "*batch s t"], sigma: float) -> Float[Tensor, "*batch s t"]:
    """Convolve grids with a Gaussian of odd width and radius ceil(3 sigma), padded with zeros.

    Deviation: the paper leaves the size open; of an even width the masks would shift.
    """
    if sigma == 0:
        return grids
    rows = _smoothing_matrix(grids.shape[-2], sigma, grids.device, grids.dtype)
    columns = _smoothing_matrix(grids.shape[-1], sigma, grids.device, grids.dtype)
    return rows @ grids @ columns
