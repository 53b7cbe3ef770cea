"""Accuracy that takes every label format of mixed batches, and how closely a student follows its teacher."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import kl_div


def accuracy(
    logits: Float[Tensor, "b n"], targets: Tensor | tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]
) -> Float[Tensor, ""]:
    """Return the share of predictions that hit the class of largest weight, for every label format of the callback.

    torchmetrics' multiclass accuracy takes class indices only: for soft targets it fails, or returns a wrong number
    without an error. Give its metrics the result of `hard_targets`.

    Args:
        logits: Predictions; larger is likelier.
        targets: (b,) class indices, (b, n) probabilities, or a pair of (b, k) class indices and (b, k) weights.

    Raises:
        ValueError: If the targets fit no format.
    """
    return (logits.argmax(dim=1) == hard_targets(targets)).float().mean()


def hard_targets(targets: Tensor | tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]) -> Int[Tensor, " b"]:
    """Return the class of largest weight (b), for every label format of `SuperMixCallback`.

    In the format of pairs, the weights of a class that occurs twice in a set add up.

    Args:
        targets: (b,) class indices, (b, n) probabilities, or a pair of (b, k) class indices and (b, k) weights.

    Raises:
        ValueError: If the targets fit no format.
    """
    if isinstance(targets, tuple | list):
        classes, weights = targets
        same = classes[:, :, None] == classes[:, None, :]
        totals = (same * weights[:, None, :]).sum(dim=2)
        return classes.gather(1, totals.argmax(dim=1, keepdim=True)).squeeze(1)
    if targets.ndim == 2 and targets.is_floating_point():
        return targets.argmax(dim=1)
    if targets.ndim == 1 and not targets.is_floating_point():
        return targets
    raise ValueError(
        "expected targets as (b,) integers, (b, n) probabilities or a pair of (b, k) classes and weights, got "
        f"{targets.dtype} of shape {tuple(targets.shape)}"
    )


def teacher_agreement(student_logits: Float[Tensor, "b n"], teacher_logits: Float[Tensor, "b n"]) -> Float[Tensor, ""]:
    """Return the share of images, in [0, 1], for which student and teacher have the same top class."""
    return (student_logits.argmax(dim=1) == teacher_logits.argmax(dim=1)).float().mean()


def teacher_divergence(student_logits: Float[Tensor, "b n"], teacher_logits: Float[Tensor, "b n"]) -> Float[Tensor, ""]:
    """Return KL(teacher || student) of their probabilities in nats, averaged over the images, in float32 at least."""
    student, teacher = (
        logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=1)
        for logits in (student_logits, teacher_logits)
    )
    return kl_div(student, teacher, reduction="batchmean", log_target=True)
