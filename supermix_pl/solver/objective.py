"""What the masks of a set minimise, one value a set (Eq. 3 and 5)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad, softplus

from supermix_pl.solver.criterion import margin


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A loss a set: `of_logits` reads logits, soft targets and membership; the weighted terms read the masks."""

    of_logits: Callable[[Float[Tensor, "b n"], Float[Tensor, "b n"], Bool[Tensor, "b n"]], Float[Tensor, " b"]]
    sparsity_weight: float
    roughness_weight: float = 0.0

    def of_masks(self, masks: Float[Tensor, "b k h w"]) -> Float[Tensor, " b"]:
        """Return the second part."""
        loss = self.sparsity_weight * sparsity(masks)
        return loss + self.roughness_weight * total_variation(masks) if self.roughness_weight else loss


def divergence(logits: Float[Tensor, "b n"], soft_targets: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Measure KL(soft target || prediction) of every set.

    Deviation: Eq. 3 prints the divergence the other way round, which is infinite because the target has zeros.
    """
    return torch.special.xlogy(soft_targets, soft_targets).sum(1) - (soft_targets * logits.log_softmax(1)).sum(1)


def sparsity(masks: Float[Tensor, "b k h w"]) -> Float[Tensor, " b"]:
    """Average m(1 - m): 0 for binary masks, (k - 1) / k**2 for equal ones.

    Deviation: Eq. 5 prints m(m - 1), whose minimum is the plain average of the sources.
    """
    return (masks * (1 - masks)).mean(dim=(1, 2, 3))


def total_variation(masks: Float[Tensor, "b k h w"]) -> Float[Tensor, " b"]:
    """Average the 3-norm of the forward differences of the masks, in units of mask value per pixel (Section 4.4).

    Its gradient is taken as 0 where a mask is flat. The differences are scaled by the larger one before they are cubed,
    so that small ones do not underflow; the scale is a constant for the gradient, which does not depend on it.
    """
    dx = pad(masks.diff(dim=3), (0, 1)).abs()
    dy = pad(masks.diff(dim=2), (0, 0, 0, 1)).abs()
    largest = torch.maximum(dx, dy).detach()
    accuracy = torch.finfo(masks.dtype)
    flat = largest < accuracy.tiny / accuracy.eps
    unit = torch.where(flat, 1.0, largest)
    cubes = torch.where(flat, 1.0, (dx / unit) ** 3 + (dy / unit) ** 3)
    return torch.where(flat, 0.0, unit * cubes ** (1 / 3)).mean(dim=(1, 2, 3))


def paper_objective(sparsity_weight: float, roughness_weight: float = 0.0) -> Objective:
    """Build KL + lambda_s L_s + lambda_sigma L_sigma (Eq. 3 of Dabouei et al., 2021)."""
    return Objective(
        of_logits=lambda logits, soft_targets, _: divergence(logits, soft_targets),
        sparsity_weight=sparsity_weight,
        roughness_weight=roughness_weight,
    )


_PAPERS_SHARE = 0.2  # beside the term that knows the criterion


def margin_objective(sparsity_weight: float, roughness_weight: float = 0.0) -> Objective:
    """Build a loss that knows the criterion: softplus(-margin) plus a fifth of the paper's objective.

    Deviation: not in the paper. The first term pulls on the two classes that decide whether the set is solved, so that
    sets end in fewer steps, with softer masks.
    """
    return Objective(
        of_logits=lambda logits, soft_targets, membership: (
            softplus(-margin(logits, membership)) + _PAPERS_SHARE * divergence(logits, soft_targets)
        ),
        sparsity_weight=_PAPERS_SHARE * sparsity_weight,
        roughness_weight=_PAPERS_SHARE * roughness_weight,
    )


def smooth_margin(logits: Float[Tensor, "b n"], membership: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Measure the margin with a soft worst class inside Y and a soft best class outside it.

    It is -log sum exp(-z) over the classes of Y minus log sum exp(z) over the others, and 0 where Y holds every class.
    It is never larger than the margin, so that a set is solved where it is positive, and all classes near the two that
    decide take part in its gradient.
    """
    everything = membership.all(dim=1)
    inside = -(-logits).masked_fill(~membership, -torch.inf).logsumexp(dim=1)
    outside = logits.masked_fill(membership & ~everything[:, None], -torch.inf).logsumexp(dim=1)
    return torch.where(everything, 0.0, inside - outside)


_MARGIN_WEIGHT = 1.5  # at 1 fewer mixes hold after 12 steps under views


def criterion_objective(sparsity_weight: float, roughness_weight: float = 0.0) -> Objective:
    """Build the paper's objective minus one and a half times the smooth margin.

    Deviation: not in the paper. KL alone asks for the mixing weights, which few mixes meet, so that its steps grow long
    where little can be gained. The margin adds what decides whether a set is solved, and smoothly, so that a step
    towards one class does not lose another; the KL keeps the share of each source near its weight.
    """
    return Objective(
        of_logits=lambda logits, soft_targets, membership: (
            divergence(logits, soft_targets) - _MARGIN_WEIGHT * smooth_margin(logits, membership)
        ),
        sparsity_weight=sparsity_weight,
        roughness_weight=roughness_weight,
    )
