"""Measures of mixes: what their masks keep, and whether the teacher sees the classes of their sets."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixedBatch, PuzzleMix
from supermix_pl.mixing import Chosen, DirectMixer
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


@torch.no_grad()
def saliency_placed(
    mixer: DirectMixer,
    teacher: FrozenTeacher,
    images: Float[Tensor, "b c h w"],
    mix: MixedBatch,
    saliency: Float[Tensor, "b h w"],
    seed: int,
) -> Float[Tensor, " b"]:
    """Return what `saliency_kept` does, of the same sets with new masks, where sources are resized or moved.

    Saliency is one more channel of the images, which the teacher does not see, and moves with them.
    """
    rider = saliency / saliency.sum(dim=(1, 2), keepdim=True)
    classes = torch.zeros_like(mix.source_indices[:, 0]).index_put((mix.source_indices,), mix.source_classes)
    if isinstance(mixer, PuzzleMix):  # its differences are means over the channels
        mixer = replace(mixer, gamma=mixer.gamma * (1 + 1 / images.shape[1]))
    seeing = FrozenTeacher(_Without(teacher), fold=False)
    both = torch.cat([images, rider[:, None]], dim=1)
    composed = mixer.compose(Chosen(np.random.default_rng(seed), both, classes, mix.source_indices, seeing))
    placed = composed.sources[:, :, -1]
    return ((placed * composed.masks).sum(dim=(2, 3)) / placed.sum(dim=(2, 3))).mean(dim=1)


class _Without(nn.Module):
    def __init__(self, teacher: FrozenTeacher) -> None:
        super().__init__()
        self._teacher = [teacher]

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return self._teacher[0](images[:, :-1])
