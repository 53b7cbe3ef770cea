"""The fast gradient sign method: one step against the labels."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from supermix_pl.arguments import check_not_negative
from supermix_pl.experiments.data.pixels import Normalisation


def fgsm(
    network: nn.Module,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"],
    *,
    epsilon: float,
    normalisation: Normalisation,
) -> Float[Tensor, "b c h w"]:
    """Move every pixel by epsilon in the direction that raises the loss, within [0, 1] (Goodfellow et al., 2015).

    Args:
        network: In eval mode; its weights get no gradients.
        images: Normalised images.
        labels: Their classes.
        epsilon: Length of the step on the scale [0, 1] of pixels, >= 0.
        normalisation: What the images, also those that are returned, are normalised with.
    """
    check_not_negative("epsilon", epsilon)
    mean, std = (
        torch.tensor(list(values), dtype=images.dtype, device=images.device)[:, None, None]
        for values in (normalisation.mean, normalisation.std)
    )
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(network(inputs).float(), labels, reduction="sum"), inputs)
    attacked = images.detach() * std + mean + epsilon * gradient.sign()
    return (attacked.clamp(0, 1) - mean) / std
