"""Whether the teacher agrees with the labels of natural images."""

from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing import MixedBatch
from supermix_pl.mixing.checks import check_images
from supermix_pl.mixing.natural import float_autograd, show_natural
from supermix_pl.mixing.targets import is_probabilities
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.teacher.passes import Chunks


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

    Args:
        mix: Of the batch.
        teacher: Of the mixes.
        images: r of the natural batch.
        labels: (r,) class indices or (r, n) probabilities; of others, such as several classes a row, None comes back.
        logits: The teacher's, of them; None where they have not been shown to it.
        chunk_size: Images that the teacher sees at once; None for all.
    """
    by_row = labels.ndim == 2 and labels.shape[1] == mix.soft_targets.shape[1]
    if by_row and not bool(is_probabilities(labels).all()):
        return None
    if not by_row and (labels.ndim != 1 or labels.is_floating_point()):
        return None
    if logits is None:
        with float_autograd(images.device):
            logits = show_natural(teacher, check_images(images), chunks=Chunks(teacher, chunk_size)).logits
    assert logits is not None
    return (logits.argmax(dim=1) == (labels.argmax(dim=1) if by_row else labels.long())).sum()
