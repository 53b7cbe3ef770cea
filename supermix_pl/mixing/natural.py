"""The teacher's outputs for the natural images."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.solver.saliency import input_saliency
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.teacher.passes import Chunks, in_chunks, is_out_of_memory, joined


@dataclass
class NaturalPass:
    """The teacher's look at the natural batch.

    Attributes:
        logits: Its logits; None if the batch was not shown to it.
        saliency: Where its class lies in each image; None if not asked for.
        num_classes: Its n.
        forwards: Images passed forward.
        backwards: Rows of input gradients.
        features: The teacher's, of the pass without saliency; None if it gives none.
    """

    logits: Float[Tensor, "b n"] | None
    saliency: Float[Tensor, "b h w"] | None
    num_classes: int
    forwards: int
    backwards: int
    features: Float[Tensor, "b ..."] | None = None

    @classmethod
    def known(cls, logits: Float[Tensor, "b n"] | None) -> "NaturalPass | None":
        """Make one of logits that are there already; None where there are none."""
        return None if logits is None else cls(logits, None, logits.shape[1], 0, 0)


@contextlib.contextmanager
def float_autograd(device: torch.device) -> Iterator[None]:
    """Let gradients flow and keep the dtypes, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        yield


def show_natural(
    teacher: FrozenTeacher,
    images: Float[Tensor, "b c h w"],
    *,
    saliency_classes: Int[Tensor, " b"] | None = None,
    with_saliency: bool = False,
    chunks: Chunks | None = None,
) -> NaturalPass:
    """Show the natural batch to the teacher, and say clearly what is wrong where the two do not fit."""

    def look(rows: slice) -> tuple[Float[Tensor, "r n"], Tensor | None]:
        if with_saliency:
            classes = None if saliency_classes is None else saliency_classes[rows]
            return input_saliency(teacher, images[rows], classes)
        with torch.no_grad():
            return teacher.look(images[rows])

    try:
        parts = in_chunks(look, len(images), chunks)
    except (AssertionError, RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"the teacher failed on images of shape {tuple(images.shape)}: {error}{_hint(error)}"
        ) from error
    logits, beside = torch.cat([logits for logits, _ in parts]), joined([each for _, each in parts])
    if logits.shape[0] != len(images):
        raise ValueError(f"expected the teacher to give {len(images)} rows of logits, got {logits.shape[0]}")
    if with_saliency:
        return NaturalPass(logits, beside, logits.shape[1], len(images), len(images))
    return NaturalPass(logits, None, logits.shape[1], len(images), 0, beside)


def _hint(error: Exception) -> str:
    """Return what helps against an error of the teacher, unless it is of our own making or about channels."""
    text = str(error)
    if text.startswith("expected ") or "channels" in text:
        return ""
    return "; if it was trained on another image size, wrap it as FrozenTeacher(module, image_size=...)"


def classes_seen(logits: Float[Tensor, "b n"], labels: Int[Tensor, " b"] | None) -> Int[Tensor, " b"]:
    """Find the class of every image: the teacher's, or the given label where its logits are not finite.

    Args:
        logits: The teacher's.
        labels: Class indices; those out of [0, n) and labels of another kind count as missing.

    Returns:
        Classes; -1 of images that have neither: they can be no sources.
    """
    missing = torch.full_like(logits[:, 0], -1, dtype=torch.long)
    if labels is not None and labels.shape == missing.shape and not labels.is_floating_point():
        given = labels.long()
        missing = torch.where((given >= 0) & (given < logits.shape[1]), given, missing)
    return torch.where(logits.isfinite().all(dim=1), logits.nan_to_num().argmax(dim=1), missing)


def check_seen(natural: NaturalPass) -> None:
    """Refuse a teacher that sees nothing in any image of a batch."""
    if natural.logits is not None and not bool(natural.logits.isfinite().all(dim=1).any()):
        raise ValueError(
            "expected finite logits from the teacher, got NaN or infinity for every image of the batch; look at its "
            "weights, its normalisation and its dtype"
        )


def count_classes(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"]) -> NaturalPass:
    """Learn the teacher's n without showing it the batch: at most one image, once."""
    if teacher.num_classes is not None:
        return NaturalPass(None, None, teacher.num_classes, 0, 0)
    shown = show_natural(teacher, images[:1])
    return NaturalPass(None, None, shown.num_classes, shown.forwards, 0)
