"""Mixes as pictures: tensors that any logger or plotting library can show."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from supermix_pl.arguments import check_statistics


def denormalize(
    images: Float[Tensor, "b c h w"], mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Float[Tensor, "b c h w"]:
    """Bring normalised images back to [0, 1].

    Args:
        images: Normalised images.
        mean: Per channel, what they were normalised with; None if they are in [0, 1] already.
        std: Per channel, > 0, likewise.

    Raises:
        ValueError: If only one of them is given, or they are no such numbers.
    """
    check_statistics(mean, std)
    return undo(images, mean, std).clamp(0, 1)


def undo(
    images: Float[Tensor, "b c h w"], mean: Sequence[float] | None, std: Sequence[float] | None
) -> Float[Tensor, "b c h w"]:
    """Undo a normalisation, if there is one; in [0, 1] only if the images were normalised so."""
    images = images.detach().float()
    if mean is None or std is None:
        return images
    return images * torch.tensor(std).to(images)[:, None, None] + torch.tensor(mean).to(images)[:, None, None]


def displayable(
    groups: Sequence[Float[Tensor, "_ c _ _"]], mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> list[Float[Tensor, "_ d _ _"]]:
    """Bring images that belong together into [0, 1] alike, with d = 3 channels or 1.

    Without mean and std, images outside [0, 1] are stretched to it, from their least to their largest value.
    """
    shown = [group.detach().float() for group in groups]
    if mean is None:
        lowest = min(float(group.min()) for group in shown)
        highest = max(float(group.max()) for group in shown)
        if lowest < 0 or highest > 1:
            shown = [(group - lowest) / max(highest - lowest, 1e-12) for group in shown]
    shown = [denormalize(group, mean, std) for group in shown]
    return [group if group.shape[1] in (1, 3) else group.mean(dim=1, keepdim=True) for group in shown]
