"""Label formats of a mix, and the same formats for the natural images beside it."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from supermix_pl.mixing.mixer import MixedBatch

_MOST_OFF_ONE = 0.01  # rows in half precision are rounded

TargetFormat = Literal["teacher", "soft", "teacher_soft", "pairs"]
"""What the mixes are labelled with:

- "teacher": (b,) integers, the teacher's class of the mix;
- "soft": (b, n) floats, Eq. 2: the weights of the sources on their classes;
- "teacher_soft": (b, n) floats, the teacher's probabilities of the mix;
- "pairs": a tuple of (b, k) integer classes and (b, k) float weights.
"""

Targets = Tensor | tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]


def mixed_targets(mix: MixedBatch, target_format: TargetFormat, temperature: float = 1.0) -> Targets:
    """Label the mixes in a format, in float32; `temperature` softens the probabilities of "teacher_soft"."""
    if target_format == "soft":
        return mix.soft_targets.float()
    if target_format == "pairs":
        return mix.source_classes, mix.mix_weights.float()
    if mix.teacher_logits is None:
        raise ValueError(
            f'expected a teacher to label the mixes for targets="{target_format}", got None; give one, or choose '
            'targets="soft" or "pairs"'
        )
    if target_format == "teacher":
        return mix.teacher_logits.argmax(dim=1)
    return (mix.teacher_logits / temperature).softmax(dim=1).float()


def is_probabilities(labels: Tensor) -> Bool[Tensor, " b"]:
    """Return which rows (b, n) hold probabilities: finite, not negative, with a sum of 1."""
    rows = labels.float()
    return (rows >= 0).all(dim=1) & ((rows.sum(dim=1) - 1).abs() <= _MOST_OFF_ONE)  # NaN fails both


def check_probabilities(labels: Tensor) -> None:
    """Refuse rows of floats that are no probabilities; the message names the first."""
    if labels.ndim != 2 or not labels.is_floating_point():
        return
    wrong = ~is_probabilities(labels)
    if not bool(wrong.any()):
        return
    row = int(wrong.nonzero()[0])
    shown = ", ".join(f"{value:g}" for value in labels[row, :4].tolist()) + (", ..." if labels.shape[1] > 4 else "")
    raise ValueError(
        f"expected labels as probabilities, each row finite, >= 0 and summing to 1, got row {row} with the sum "
        f"{float(labels[row].float().sum()):g}: [{shown}]; divide by the sum, take the softmax of logits, or choose "
        'targets="teacher" and mode="replace" for labels of several classes'
    )


def natural_targets(labels: Tensor, target_format: TargetFormat, num_classes: int | None, k: int) -> Targets:
    """Bring class indices (b,) of the natural images into the format of the mixes; n may be unknown if it needs none.

    For the two soft formats rows of probabilities (b, n) pass as they are. In the format "pairs" a natural image has
    weight 1 on its class and 0 on k - 1 copies.
    """
    indices = labels.ndim == 1 and not labels.is_floating_point()
    probabilities = labels.is_floating_point() and labels.shape[1:] == (num_classes,)
    if not indices and not (probabilities and target_format in ("soft", "teacher_soft")):
        raise ValueError(
            f'expected labels as (b,) integers, or for targets="soft" and "teacher_soft" as (b, {num_classes or "n"}) '
            f'probabilities, got {labels.dtype} of shape {tuple(labels.shape)} for targets="{target_format}"; convert '
            'them, or choose other targets or mode="replace" for every batch'
        )
    if target_format in ("soft", "teacher_soft"):
        assert num_classes is not None
        return labels if probabilities else one_hot(labels.long(), num_classes).float()
    if target_format == "pairs":
        weights = torch.zeros(len(labels), k, device=labels.device)
        weights[:, 0] = 1.0
        return labels.long().unsqueeze(1).expand(-1, k), weights
    return widened(labels)


def blend(
    given: Float[Tensor, "b n"], logits: Float[Tensor, "b n"], share: float | Float[Tensor, "b 1"], temperature: float
) -> Float[Tensor, "b n"]:
    """Blend given probabilities with a share of the teacher's, softened; rows of logits that are not finite stay."""
    finite = logits.isfinite().all(dim=1, keepdim=True)
    taught = (logits / temperature).softmax(dim=1).to(given.dtype)
    return torch.where(finite, given + share * (taught - given), given)


def concatenate(
    natural: Targets, mixed: Tensor | tuple[Int[Tensor, "m k"], Float[Tensor, "m k"]]
) -> Tensor | tuple[Int[Tensor, "b+m k"], Float[Tensor, "b+m k"]]:
    """Put the labels of the natural images before those of the mixes, which take their dtype if it holds them all."""
    if isinstance(natural, tuple) and isinstance(mixed, tuple):
        return torch.cat([natural[0], mixed[0]]), torch.cat([natural[1], mixed[1]])
    assert isinstance(natural, Tensor)
    assert isinstance(mixed, Tensor)
    natural = widened(natural)
    return torch.cat([natural, mixed.to(natural.dtype)])


def widened(labels: Tensor) -> Tensor:
    """Return integer labels in a dtype in which no class wraps and torch computes: int64, or int32 as it is."""
    return labels if labels.is_floating_point() or labels.dtype in (torch.int32, torch.int64) else labels.long()
