"""Losses for the label formats of mixed batches, and for distillation."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, normalize

from supermix_pl.arguments import check_not_negative, check_positive


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
    student, teacher = _softened(student_logits, temperature), _softened(teacher_logits.detach(), temperature)
    return kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def soft_distillation_loss(
    student_logits: Float[Tensor, "b n"], soft_targets: Float[Tensor, "b n"], *, temperature: float = 4.0
) -> Float[Tensor, ""]:
    """Return T^2 KL(soft targets || student softened by T), averaged over the batch, in float32 at least.

    It is `distillation_loss` for labels that are the teacher's probabilities at T already, such as those of
    `SuperMixCallback(targets="teacher_soft", natural_targets="teacher", target_temperature=T)`.

    Args:
        student_logits: The student's.
        soft_targets: Probabilities; rows sum to 1. No gradient flows to them.
        temperature: T, > 0, the one that softened the targets.

    Raises:
        ValueError: If the temperature is not positive, or the targets are no probabilities of these classes.
    """
    if soft_targets.shape != student_logits.shape or not soft_targets.is_floating_point():
        raise ValueError(
            f"expected soft targets as {tuple(student_logits.shape)} probabilities, got {soft_targets.dtype} of shape "
            f'{tuple(soft_targets.shape)}; SuperMixCallback gives them with targets="teacher_soft"'
        )
    student = _softened(student_logits, temperature)
    return kl_div(student, soft_targets.detach().to(student.dtype), reduction="batchmean") * temperature**2


def dkd_loss(
    student_logits: Float[Tensor, "b n"],
    teacher_logits: Float[Tensor, "b n"],
    classes: Int[Tensor, " b"],
    *,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Float[Tensor, ""]:
    """Return decoupled distillation's T^2 (alpha TCKD + beta NCKD), averaged over the batch, in float32 at least.

    Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, Eq. 7. TCKD is the divergence of (p_t, 1 - p_t), where t
    is the target class, and NCKD that of the other classes' probabilities, normalised to sum to 1.

    Args:
        student_logits: The student's, of n >= 2 classes.
        teacher_logits: The teacher's; no gradient flows to them.
        classes: Target classes in [0, n); for other label formats give `supermix_pl.metrics.hard_targets(targets)`.
        temperature: T, > 0.
        alpha: Weight of TCKD, >= 0.
        beta: Weight of NCKD, >= 0. The paper's is 1 to 10, larger for surer teachers.

    Raises:
        ValueError: If an argument is out of its range, or the classes are of another format.
    """
    check_not_negative("alpha", alpha)
    check_not_negative("beta", beta)
    count, num_classes = student_logits.shape
    if num_classes < 2:
        raise ValueError(f"expected logits of at least 2 classes, got {num_classes}")
    if classes.shape != (count,) or classes.is_floating_point():
        raise ValueError(
            f"expected classes as ({count},) integers, got {classes.dtype} of shape {tuple(classes.shape)}; "
            "supermix_pl.metrics.hard_targets gives those of every label format"
        )
    target = classes.long()[:, None]
    others = torch.arange(num_classes - 1, device=classes.device).expand(count, -1)
    others = others + (others >= target)
    binary, rest = [], []
    for logits in (student_logits, teacher_logits.detach()):
        log_p = _softened(logits, temperature)
        own, other = log_p.gather(1, target), log_p.gather(1, others)
        binary.append(torch.cat([own, other.logsumexp(dim=1, keepdim=True)], dim=1))
        rest.append(other.log_softmax(dim=1))
    tckd, nckd = (kl_div(*pair, reduction="batchmean", log_target=True) for pair in (binary, rest))
    return (alpha * tckd + beta * nckd) * temperature**2


def dist_loss(
    student_logits: Float[Tensor, "b n"],
    teacher_logits: Float[Tensor, "b n"],
    *,
    temperature: float = 4.0,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Float[Tensor, ""]:
    """Return DIST's loss, beta L_inter + gamma L_intra, in float32 at least.

    Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022. L_inter is 1 - Pearson's correlation
    of student and teacher over the classes of an image, averaged over the images; L_intra that over the images of the
    batch for a class, averaged over the classes. Both are of probabilities softened by T. Where either side is constant
    (one image, equal logits) there is no correlation: it counts as 0, without a gradient.

    Args:
        student_logits: The student's.
        teacher_logits: The teacher's; no gradient flows to them.
        temperature: T, > 0.
        beta: Weight of L_inter, >= 0.
        gamma: Weight of L_intra, >= 0.

    Raises:
        ValueError: If an argument is out of its range.
    """
    check_not_negative("beta", beta)
    check_not_negative("gamma", gamma)
    student, teacher = _softened(student_logits, temperature), _softened(teacher_logits.detach(), temperature)
    inter, intra = (1 - _correlation(student, teacher, dim=dim).mean() for dim in (1, 0))
    return beta * inter + gamma * intra


def similarity_loss(
    student_features: Float[Tensor, "b ..."], teacher_features: Float[Tensor, "b ..."]
) -> Float[Tensor, ""]:
    """Return how far student and teacher differ in which images of a batch are alike, in float32 at least.

    Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, Eq. 2 to 4: the mean square of G_T - G_S,
    where G are the products of each image's features with those of every image, each row divided by its norm. The
    features of the two may have any shapes. The paper's weight is 3000.

    Args:
        student_features: The student's.
        teacher_features: The teacher's of the same images, such as `SuperMixCallback.teacher_features`; no gradient
            flows to them.

    Raises:
        ValueError: If they are of different numbers of images.
    """
    if len(student_features) != len(teacher_features):
        raise ValueError(
            f"expected features of the same images, got {len(student_features)} of the student and "
            f"{len(teacher_features)} of the teacher"
        )
    similar = []
    with torch.autocast(student_features.device.type, enabled=False):
        for features in (student_features, teacher_features.detach()):
            rows = features.flatten(1).to(torch.promote_types(features.dtype, torch.float32))
            similar.append(normalize(rows @ rows.T, dim=1))
    return (similar[0] - similar[1]).square().mean()


def _correlation(log_a: Float[Tensor, "b n"], log_b: Float[Tensor, "b n"], *, dim: int) -> Tensor:
    """Return Pearson's correlation of probabilities along a dimension, from their logarithms; 0 for constant ones.

    It does not depend on their scale, so the largest is made 1: those of unlikely classes would underflow.
    """
    units = []
    for log_p in (log_a, log_b):
        values = (log_p - log_p.detach().amax(dim=dim, keepdim=True)).exp()
        centred = values - values.mean(dim=dim, keepdim=True)
        norm = torch.linalg.vector_norm(centred, dim=dim, keepdim=True)
        rounding = 8 * torch.finfo(values.dtype).eps * values.shape[dim] ** 0.5
        units.append(centred / norm.where(norm > rounding, torch.inf))
    return (units[0] * units[1]).sum(dim=dim)


def _softened(logits: Float[Tensor, "b n"], temperature: float | Float[Tensor, ""]) -> Float[Tensor, "b n"]:
    """Return log probabilities at T, in float32 at least: under autocast on a CPU the logits are in bfloat16."""
    check_positive("temperature", temperature)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (logits / temperature).log_softmax(dim=1)
