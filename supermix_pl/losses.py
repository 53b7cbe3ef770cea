"""Losses for the label formats of mixed batches, and for distillation."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from supermix_pl.arguments import check_positive


def soft_cross_entropy(
    logits: Float[Tensor, "b n"], targets: Tensor | tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]
) -> Float[Tensor, ""]:
    """Return the cross-entropy, averaged over the batch, for every label format of `SuperMixCallback`.

    Args:
        logits: The student's.
        targets: (b,) class indices, (b, n) probabilities, or a pair of (b, k) class indices and (b, k) weights.

    Raises:
        ValueError: If the targets fit no format.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> pair = (torch.tensor([[0, 1]]), torch.tensor([[0.75, 0.25]]))
        >>> torch.equal(soft_cross_entropy(logits, pair), soft_cross_entropy(logits, torch.tensor([[0.75, 0.25]])))
        True
    """
    if isinstance(targets, tuple | list):
        classes, weights = targets
        if classes.shape != weights.shape or classes.ndim != 2 or len(classes) != len(logits):
            raise ValueError(
                f"expected a pair of ({len(logits)}, k) classes and weights for logits of {tuple(logits.shape)}, got "
                f"{tuple(classes.shape)} and {tuple(weights.shape)}"
            )
        return -(logits.log_softmax(dim=1).gather(1, classes) * weights).sum(dim=1).mean()
    if targets.ndim == 1 and not targets.is_floating_point():
        return cross_entropy(logits, targets.long())
    if targets.shape != logits.shape:
        raise ValueError(
            f"expected targets as (b,) integers, {tuple(logits.shape)} probabilities or a pair of (b, k) classes and "
            f"weights, got {targets.dtype} of shape {tuple(targets.shape)}"
        )
    return cross_entropy(logits, targets.to(logits.dtype))


def distillation_loss(
    student_logits: Float[Tensor, "b n"],
    teacher_logits: Float[Tensor, "b n"],
    *,
    temperature: float | Float[Tensor, ""] = 4.0,
) -> Float[Tensor, ""]:
    """Return T^2 KL(teacher || student) of predictions softened by T, averaged over the batch, in float32 at least.

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015. The factor T^2 keeps the size of the gradients
    independent of T.

    Args:
        student_logits: The student's.
        teacher_logits: The teacher's; no gradient flows to them.
        temperature: T, > 0.

    Raises:
        ValueError: If the temperature is not positive.
    """
    check_positive("temperature", temperature)
    student_logits, teacher_logits = _at_least_float32(student_logits), _at_least_float32(teacher_logits.detach())
    student = (student_logits / temperature).log_softmax(dim=1)
    teacher = (teacher_logits / temperature).log_softmax(dim=1)
    return kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def _at_least_float32(logits: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Return logits in float32, or as they are in float64: under autocast on a CPU they come in bfloat16."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
