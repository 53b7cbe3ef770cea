"""A start for the masks: where the teacher's own class of each source lies in it."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from supermix_pl.solver.smoothing import smooth


def input_saliency(
    teacher: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b n"]],
    images: Float[Tensor, "b c h w"],
    classes: Int[Tensor, " b"] | None,
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b h w"]]:
    """Weigh each pixel by |image x input gradient of a class's logit|, summed over the channels.

    Args:
        teacher: Gives logits of images, differentiably.
        images: The natural images.
        classes: The class of each image; None for the teacher's own.

    Returns:
        The teacher's logits of the images, and the saliency.
    """
    images = images.detach().clone().requires_grad_()  # a clone, because the batch may come from inference mode
    logits = teacher(images)
    chosen = logits.argmax(dim=1) if classes is None else classes
    (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), images)
    return logits.detach(), (images.detach() * gradient).abs().sum(dim=1)


def saliency_logits(
    saliency: Float[Tensor, "n h w"],
    source_indices: Int[Tensor, "b k"],
    mask_size: tuple[int, int],
    sigma: float,
) -> Float[Tensor, "b k s t"]:
    """Turn saliency into mask logits: pooled to the mask grid, smoothed, standardised across each set.

    Args:
        saliency: Of each natural image.
        source_indices: The sources of each set.
        mask_size: Height and width of the mask grid.
        sigma: Standard deviation of the smoothing in cells of the grid.
    """
    pooled = smooth(adaptive_avg_pool2d(saliency.unsqueeze(1), mask_size).squeeze(1), sigma)
    grids = pooled[source_indices]
    centred = grids - grids.mean(dim=(1, 2, 3), keepdim=True)
    return centred / (centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-12)
