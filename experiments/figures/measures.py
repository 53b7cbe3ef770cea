"""What the mixes of a method are worth, beyond the paper: pure functions of mixes."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl import MixedBatch
from supermix_pl.experiments.bench.front_rows import saliency_kept


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Numbers of one method's mixes, shares in [0, 1].

    Args:
        shown: Share of mixes with every class of their set among the teacher's first classes.
        forwards: Images that the teacher passed forward a mix, labelling included.
        backwards: Rows of input gradients a mix.
        saliency_kept: Share of a source's saliency (|image x input gradient|) where the mask keeps it; mean over
            sources and sets.
        boxes_kept: Share of the true box of a source's object that the mask keeps, likewise; None where none is known.
        probability: Mean of the teacher's largest probability.
        probability_deviation: Its standard deviation (n - 1) over the mixes.
        mean_deviation: See `deviation_of_means`.
    """

    shown: float
    forwards: float
    backwards: float
    saliency_kept: float
    boxes_kept: float | None
    probability: float
    probability_deviation: float
    mean_deviation: float


def measure(mix: MixedBatch, saliency: Float[Tensor, "b h w"], boxes: Int[Tensor, "b 4"] | None) -> Measures:
    """Measure mixes that a teacher labelled.

    Args:
        mix: One mix for each natural image.
        saliency: Of the natural images.
        boxes: Of their objects: x0, y0, x1, y1 in pixels, ends exclusive.
    """
    assert mix.teacher_logits is not None
    probabilities = mix.teacher_logits.softmax(dim=1).double()
    largest = probabilities.amax(dim=1)
    return Measures(
        shown=float(mix.solved.double().mean()),
        forwards=mix.teacher_forwards / len(mix),
        backwards=mix.teacher_backwards / len(mix),
        saliency_kept=float(saliency_kept(mix, saliency).mean()),
        boxes_kept=None if boxes is None else float(boxes_kept(mix, boxes).mean()),
        probability=float(largest.mean()),
        probability_deviation=float(largest.std()),
        mean_deviation=deviation_of_means(probabilities),
    )


def boxes_kept(mix: MixedBatch, boxes: Int[Tensor, "b 4"]) -> Float[Tensor, " b"]:
    """Measure the share of each source's box that its mask keeps, averaged over the sources of each set."""
    height, width = mix.masks.shape[-2:]
    x = torch.arange(width, device=boxes.device)
    y = torch.arange(height, device=boxes.device)
    x0, y0, x1, y1 = (edge[:, None] for edge in boxes.unbind(dim=1))
    inside = ((y >= y0) & (y < y1))[:, :, None] & ((x >= x0) & (x < x1))[:, None, :]
    inside = inside[mix.source_indices].to(mix.masks)
    return ((mix.masks * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3))).mean(dim=1)


def deviation_of_means(probabilities: Float[Tensor, "b n"], parts: int = 8) -> float:
    """Say how much the teacher's mean probabilities vary from one part of the mixes to another.

    The mixes are cut into parts of equal size; the standard deviation (n - 1) over the parts of the mean probability is
    taken for each class, and averaged over the classes. Lower means that the mixes repeat each other less. After the
    "T. stddev" of Wang et al., "What Makes a Good Data Augmentation in Knowledge Distillation", NeurIPS 2022.

    Args:
        probabilities: The teacher's, of the mixes.
        parts: Into how many parts they are cut; fewer where there are fewer than two a part. NaN below two parts.
    """
    parts = min(parts, len(probabilities) // 2)
    if parts < 2:
        return float("nan")
    size = len(probabilities) // parts
    means = probabilities[: parts * size].unflatten(0, (parts, size)).mean(dim=1)
    return float(means.std(dim=0).mean())


def solved_within(mix: MixedBatch, limit: int) -> list[float]:
    """Give the share of sets that are solved within 0, 1, ..., `limit` steps: a set does not depend on the others."""
    steps = torch.where(mix.solved, mix.num_steps, limit + 1)
    return [float((steps <= number).double().mean()) for number in range(limit + 1)]


def forwards_within(mix: MixedBatch, limit: int) -> list[float]:
    """Give the teacher's forwards a set under limits of 0, 1, ..., `limit` steps: label, and one more than steps."""
    return [float(mix.num_steps.clamp(max=number).double().mean()) + 2 for number in range(limit + 1)]
