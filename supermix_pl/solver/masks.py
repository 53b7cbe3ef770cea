"""From mask logits on a small grid to masks that mix images (Eq. 1 and 4)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from supermix_pl.solver.constants import constant

_LEAST_SHARE = 1e-6


@constant
def _upsampling_matrix(grid: int, size: int, device: torch.device) -> Float[Tensor, "size grid"]:
    """Bilinear weights along one axis, with half-pixel centres and a clamped border."""
    rows, columns = (torch.arange(length, dtype=torch.float64, device=device) for length in (size, grid))
    centres = ((rows + 0.5) * grid / size - 0.5).clamp(0, grid - 1)
    return (1 - (centres[:, None] - columns).abs()).clamp_min(0)


def upsample(grids: Float[Tensor, "*batch s t"], size: tuple[int, int]) -> Float[Tensor, "*batch h w"]:
    """Up-sample bilinearly, as two matrix products: deterministic on every device, also in the backward pass."""
    rows = _upsampling_matrix(grids.shape[-2], size[0], grids.device, grids.dtype)
    columns = _upsampling_matrix(grids.shape[-1], size[1], grids.device, grids.dtype)
    return rows @ grids @ columns.T


def normalized_masks(mask_logits: Float[Tensor, "b k s t"], size: tuple[int, int]) -> Float[Tensor, "b k h w"]:
    """Up-sample the logits, squash them and normalise over the sources (Eq. 4 of Dabouei et al., 2021).

    The quotient of sigmoids is computed as a softmax of log-sigmoids, so it stays finite for any finite logits.

    Deviation: the paper normalises before it up-samples; here the masks sum to 1 at every pixel.
    """
    return logsigmoid(upsample(mask_logits, size)).softmax(dim=1)


def mix_images(sources: Float[Tensor, "b k c h w"], masks: Float[Tensor, "b k h w"]) -> Float[Tensor, "b c h w"]:
    """Mix the k sources of every set under their masks (Eq. 1 of Dabouei et al., 2021)."""
    return (sources * masks.unsqueeze(2)).sum(dim=1)


def uniform_logits(mix_weights: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    """Return the logits of masks that have these weights everywhere (Eq. 4), as nearly as finite logits can.

    The sigmoids are the weights, scaled so that the largest is 1/2.
    """
    shares = 0.5 * mix_weights / mix_weights.amax(dim=1, keepdim=True)
    return shares.clamp_min(_LEAST_SHARE).logit()
