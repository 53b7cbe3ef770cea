"""From masks to a mixed batch; sets that cannot be kept get their natural image back."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from supermix_pl.mixing.drawn import DrawnSets
from supermix_pl.mixing.mixer import MixedBatch
from supermix_pl.mixing.natural import NaturalPass
from supermix_pl.mixing.targets import soft_targets
from supermix_pl.solver.masks import mix_images


def assemble(
    drawn: DrawnSets,
    masks: Float[Tensor, "b k h w"],
    *,
    teacher_logits: Float[Tensor, "b n"] | None,
    outcomes: Int[Tensor, " b"],
    num_steps: Int[Tensor, " b"],
    natural: NaturalPass,
    restored: Bool[Tensor, " b"] | None = None,
    left_out: int = 0,
    teacher_forwards: int,
    teacher_backwards: int,
) -> MixedBatch:
    """Mix the sources and collect all that is known of the mixes.

    Args:
        drawn: The sets.
        masks: Their masks.
        teacher_logits: The teacher's logits of exactly these mixes; None if it has not seen them.
        outcomes: How the sets ended.
        num_steps: Updates that their masks have had.
        natural: The teacher's look at the natural batch.
        restored: Sets that get their natural image back, with all its weight and the teacher's logits of it.
        left_out: Images of the batch that are no source, for want of a class.
        teacher_forwards: Images passed forward, in all.
        teacher_backwards: Rows of input gradients, in all.

    Returns:
        The mixes in the solver's precision; `present` makes of them what the student sees.
    """
    mix_weights = drawn.mix_weights
    if restored is not None:
        alone = one_hot(torch.zeros_like(num_steps), mix_weights.shape[1]).to(mix_weights.dtype)
        masks = torch.where(restored[:, None, None, None], alone[:, :, None, None], masks)
        mix_weights = torch.where(restored[:, None], alone, mix_weights)
        if teacher_logits is not None:
            teacher_logits = torch.where(restored[:, None], drawn.own_logits, teacher_logits)
    return MixedBatch(
        images=mix_images(drawn.sources, masks),
        masks=masks,
        soft_targets=soft_targets(drawn.source_classes, mix_weights, drawn.num_classes),
        teacher_logits=teacher_logits,
        source_indices=drawn.source_indices,
        source_classes=drawn.source_classes,
        mix_weights=mix_weights,
        outcomes=outcomes,
        num_steps=num_steps,
        natural_logits=natural.logits,
        teacher_forwards=teacher_forwards,
        teacher_backwards=teacher_backwards,
        left_out=left_out,
    )
