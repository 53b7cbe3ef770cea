"""A start for the masks: where the teacher's own class of each source lies in it."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from supermix_pl.solver.smoothing import smooth
from supermix_pl.teacher.outputs import image_gradient

_CONTRAST, _WIDTH, _LEAST_WEIGHT = 1.7, 4.0, 1e-3


def input_saliency(
    teacher: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b n"]],
    images: Float[Tensor, "b c h w"],
    classes: Int[Tensor, " b"] | None,
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b h w"]]:
    """Weigh each pixel by |image x input gradient of a class's logit|, summed over the channels.

    The class is the given one, else the teacher's own. Its logits of the images come back before the saliency.
    """
    images = images.detach().clone().requires_grad_()  # a clone, because the batch may come from inference mode
    logits = teacher(images)
    chosen = logits.argmax(dim=1) if classes is None else classes
    gradient = image_gradient(logits.gather(1, chosen[:, None]).sum(), images)
    return logits.detach(), (images.detach() * gradient).abs().sum(dim=1)


def saliency_logits(
    saliency: Float[Tensor, "n h w"], source_indices: Int[Tensor, "b k"], mask_size: tuple[int, int], sigma: float
) -> Float[Tensor, "b k s t"]:
    """Turn the saliency of images into mask logits: pooled to the grid, smoothed, standardised across each set."""
    grids = _pooled(saliency, mask_size, sigma)[source_indices]
    return _standardised(grids - grids.mean(dim=(1, 2, 3), keepdim=True))


def contrast_logits(
    saliency: Float[Tensor, "n h w"],
    source_indices: Int[Tensor, "b k"],
    mix_weights: Float[Tensor, "b k"],
    mask_size: tuple[int, int],
    sigma: float,
) -> Float[Tensor, "b k s t"]:
    """Turn saliency into mask logits that give each place to the source that has more of its own saliency there.

    Every image's saliency counts as shares of its whole, so that no source wins everywhere. What a source has more than
    the mean of its set is scaled to a deviation of 1.7 across the set; the logarithms of the mixing weights are added.
    The largest logit of a place is then brought to 0: of logits that are large together Eq. 4 makes an average. Sigma
    is a quarter of the deviation of the smoothing, in cells of the grid: masks take over the outlines of their start,
    which a few updates of width sigma then correct.
    """
    pooled = _pooled(saliency, mask_size, _WIDTH * sigma)
    shares = (pooled / (pooled.sum(dim=(1, 2), keepdim=True) + torch.finfo(pooled.dtype).tiny))[source_indices]
    contrast = _CONTRAST * _standardised(shares - shares.mean(dim=1, keepdim=True))
    weighted = contrast + mix_weights.clamp_min(_LEAST_WEIGHT).log()[:, :, None, None]
    return weighted - weighted.amax(dim=1, keepdim=True)


def _pooled(saliency: Float[Tensor, "n h w"], mask_size: tuple[int, int], sigma: float) -> Float[Tensor, "n s t"]:
    return smooth(adaptive_avg_pool2d(saliency.unsqueeze(1), mask_size).squeeze(1), sigma)


def _standardised(centred: Float[Tensor, "b k s t"]) -> Float[Tensor, "b k s t"]:
    return centred / (centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-12)
