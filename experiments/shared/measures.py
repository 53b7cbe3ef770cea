"""Measures of mixes: what their masks keep, and whether the teacher sees the classes of their sets."""

from jaxtyping import Bool, Float
from torch import Tensor

from supermix_pl import MixedBatch
from supermix_pl.mixing.presenting import holds


def accepted(mix: MixedBatch) -> Bool[Tensor, " b"]:
    """Return which mixes show the teacher the classes of their set, in exactly the images that they come with."""
    assert mix.teacher_logits is not None
    return holds(mix, mix.teacher_logits)


def softness(mix: MixedBatch) -> Float[Tensor, " b"]:
    """Return the mean of m(1 - m) over the masks of each set: 0 for binary ones."""
    return (mix.masks * (1 - mix.masks)).mean(dim=(1, 2, 3))


def saliency_kept(mix: MixedBatch, saliency: Float[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Return the share of a source's saliency where the mask keeps it, averaged over the sources of each set."""
    shares = saliency / saliency.sum(dim=(1, 2), keepdim=True)
    return (mix.masks * shares[mix.source_indices]).sum(dim=(2, 3)).mean(dim=1)
