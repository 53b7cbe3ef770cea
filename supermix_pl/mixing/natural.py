"""The teacher's outputs for the natural images."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing.checks import check_images
from supermix_pl.solver.saliency import input_saliency
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.teacher.passes import Chunks, is_out_of_memory, joined


@dataclass
class NaturalPass:
    """The teacher's look at the natural batch: what it gave, as far as it was asked, and the images that it passed.

    `saliency` is where the class lies in each image; features come from a pass without saliency.
    """

    logits: Float[Tensor, "b n"] | None
    num_classes: int
    saliency: Float[Tensor, "b h w"] | None = None
    forwards: int = 0
    backwards: int = 0
    features: Float[Tensor, "b ..."] | None = None

    @classmethod
    def known(cls, logits: Float[Tensor, "b n"] | None) -> "NaturalPass | None":
        """Make one of logits that are there already; None where there are none."""
        return None if logits is None else cls(logits, logits.shape[1])


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
    chunk_size: int | None = None,
) -> NaturalPass:
    """Show the natural batch to the teacher, and say clearly what is wrong where the two do not fit."""

    def look(rows: slice) -> tuple[Float[Tensor, "r n"], Tensor | None]:
        if with_saliency:
            classes = None if saliency_classes is None else saliency_classes[rows]
            return input_saliency(teacher, images[rows], classes)
        with torch.no_grad():
            return teacher.look(images[rows])

    try:
        parts = Chunks(teacher, chunk_size).run(look, len(images))
    except (AssertionError, RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        hint = "; if it was trained on another image size, wrap it as FrozenTeacher(module, image_size=...)"
        if str(error).startswith("expected ") or "channels" in str(error):  # of our own making, or not about the size
            hint = ""
        raise ValueError(f"the teacher failed on images of shape {tuple(images.shape)}: {error}{hint}") from error
    logits, beside = torch.cat([logits for logits, _ in parts]), joined([each for _, each in parts])
    if logits.shape[0] != len(images):
        raise ValueError(f"expected the teacher to give {len(images)} rows of logits, got {logits.shape[0]}")
    if with_saliency:
        return NaturalPass(logits, logits.shape[1], beside, len(images), len(images))
    return NaturalPass(logits, logits.shape[1], forwards=len(images), features=beside)


def show_batch(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"], chunk_size: int | None) -> NaturalPass:
    """Show images to the teacher as the user has them, whatever mode the caller is in."""
    with float_autograd(images.device):
        return show_natural(teacher, check_images(images), chunk_size=chunk_size)


def classes_seen(logits: Float[Tensor, "b n"], labels: Int[Tensor, " b"] | None) -> Int[Tensor, " b"]:
    """Find the class of every image: the teacher's, or the given label where its logits are not finite.

    Labels out of [0, n) and of another kind count as missing. Images that have neither get -1: they can be no sources.
    """
    missing = torch.full_like(logits[:, 0], -1, dtype=torch.long)
    if labels is not None and labels.shape == missing.shape and not labels.is_floating_point():
        given = labels.long()
        missing = torch.where((given >= 0) & (given < logits.shape[1]), given, missing)
    return torch.where(logits.isfinite().all(dim=1), logits.nan_to_num().argmax(dim=1), missing)


def count_classes(
    teacher: FrozenTeacher | None, images: Float[Tensor, "b c h w"], num_classes: int | None = None
) -> NaturalPass:
    """Learn n without showing the batch to the teacher: at most one image, once. `num_classes` is for want of one."""
    if teacher is None:
        if num_classes is None:
            raise ValueError("expected num_classes where there is no teacher to tell it, got None; give num_classes=")
        return NaturalPass(None, num_classes)
    if teacher.num_classes is not None:
        return NaturalPass(None, teacher.num_classes)
    shown = show_natural(teacher, images[:1])
    return NaturalPass(None, shown.num_classes, forwards=shown.forwards)
