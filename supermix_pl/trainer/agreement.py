"""Whether the teacher agrees with the labels of natural images."""

from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing import MixedBatch
from supermix_pl.mixing.natural import show_batch
from supermix_pl.mixing.targets import is_probabilities
from supermix_pl.teacher.frozen import FrozenTeacher


def natural_hits(
    mix: MixedBatch,
    teacher: FrozenTeacher,
    images: Float[Tensor, "r c h w"],
    labels: Tensor,
    logits: Float[Tensor, "r n"] | None = None,
    *,
    chunk_size: int | None = None,
) -> Int[Tensor, ""] | None:
    """Count on how many natural images the teacher agrees with the label, or the likeliest class of a row.

    Of labels that are neither (r,) class indices nor (r, n) probabilities None comes back.
    """
    by_row = labels.ndim == 2 and labels.shape[1] == mix.soft_targets.shape[1]
    if by_row and not bool(is_probabilities(labels).all()):
        return None
    if not by_row and (labels.ndim != 1 or labels.is_floating_point()):
        return None
    if logits is None:
        logits = show_batch(teacher, images, chunk_size).logits
    assert logits is not None
    return (logits.argmax(dim=1) == (labels.argmax(dim=1) if by_row else labels.long())).sum()
