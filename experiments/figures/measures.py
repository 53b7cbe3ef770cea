"""What the mixes of a method are worth, beyond the paper: pure functions of mixes."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl import MixedBatch
from supermix_pl.experiments.figures.held import Held
from supermix_pl.experiments.shared.measures import saliency_kept, softness


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Numbers of one method's mixes, shares in [0, 1].

    Args:
        holds: Share of fresh views, on which the set was not solved, that have every class of the set on top.
        exact: Share of mixes that do so on their exact pixels.
        forwards: Images that the teacher passed forward a mix, those that label what is shown left out.
        backwards: Rows of input gradients a mix.
        softness: Mean of m(1 - m) over the masks.
        saliency_kept: Share of a source's saliency (|image x input gradient|) where the mask keeps it; mean over
            sources and sets.
        boxes_kept: Share of the true box of a source's object that the mask keeps, likewise; None where none is known.
        probability: Mean of the teacher's probability of the set's classes together, under fresh views.
        probability_deviation: Its standard deviation (n - 1) over views and mixes.
        mean_deviation: See `deviation_of_means`; of one fresh view a mix.
    """

    holds: float
    exact: float
    forwards: float
    backwards: float
    softness: float
    saliency_kept: float
    boxes_kept: float | None
    probability: float
    probability_deviation: float
    mean_deviation: float


def measure(held: Held, saliency: Float[Tensor, "b h w"], boxes: Int[Tensor, "b 4"] | None) -> Measures:
    """Measure mixes that a teacher looked at.

    Args:
        held: One mix for each natural image.
        saliency: Of the natural images.
        boxes: Of their objects: x0, y0, x1, y1 in pixels, ends exclusive.
    """
    mix, probability = held.snapshot.mix, held.looks.probability.double()
    return Measures(
        holds=held.looks.share,
        exact=float(held.exact.double().mean()),
        forwards=(mix.teacher_forwards - mix.label_forwards) / len(mix),
        backwards=mix.teacher_backwards / len(mix),
        softness=float(softness(mix).mean()),
        saliency_kept=float(saliency_kept(mix, saliency).mean()),
        boxes_kept=None if boxes is None else float(boxes_kept(mix, boxes).mean()),
        probability=float(probability.mean()),
        probability_deviation=float(probability.std()),
        mean_deviation=deviation_of_means(held.looks.logits[:, 0].softmax(dim=1).double()),
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
    """Return how much the teacher's mean probabilities vary from one part of the mixes to another.

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
