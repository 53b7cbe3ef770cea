"""The one loop that solves all sets of a batch: state, active sets, caps, and the outcome of every set."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from supermix_pl.solver import criterion
from supermix_pl.solver.masks import mix_images, normalized_masks
from supermix_pl.solver.objective import Objective
from supermix_pl.solver.update_rule import UpdateRule, bound_step


class Outcome(IntEnum):
    """How a set ended."""

    SOLVED = 0
    """The teacher's top classes of the mix are the classes of its sources."""
    CAPPED = 1
    """`max_steps` steps did not suffice."""
    NON_FINITE = 2
    """The teacher's logits or the masks became NaN or infinite."""


@dataclass(frozen=True)
class Sets:
    """What is to be solved: the sources of b sets and what the teacher should see in their mixes."""

    sources: Float[Tensor, "b k c h w"]
    soft_targets: Float[Tensor, "b n"]
    membership: Bool[Tensor, "b n"]

    def take(self, rows: Int[Tensor, " r"]) -> "Sets":
        """Keep some of the sets."""
        return Sets(self.sources[rows], self.soft_targets[rows], self.membership[rows])


@dataclass
class Solution:
    """The best masks found for each set so far, with the teacher's logits of that very mix.

    Attributes:
        mask_logits: Those of the step with the largest margin among the steps that may end a set.
        teacher_logits: The teacher's logits of that mix.
        margins: That margin, -inf before the first such step.
        outcomes: An `Outcome` a set.
        num_steps: Updates of the masks that each set has had.
        forwards: Images that the teacher has passed forward.
        backwards: Rows of input gradients that the teacher has given.
    """

    mask_logits: Float[Tensor, "b k s t"]
    teacher_logits: Float[Tensor, "b n"]
    margins: Float[Tensor, " b"]
    outcomes: Int[Tensor, " b"]
    num_steps: Int[Tensor, " b"]
    forwards: int = field(default=0)
    backwards: int = field(default=0)

    @classmethod
    def blank(cls, sets: Sets, mask_logits: Float[Tensor, "b k s t"]) -> "Solution":
        """Start with the initial masks and nothing known of them."""
        unset = mask_logits.new_full((len(mask_logits),), -torch.inf)
        return cls(
            mask_logits=mask_logits.clone(),
            teacher_logits=sets.soft_targets.new_zeros(sets.soft_targets.shape),
            margins=unset,
            outcomes=torch.full_like(unset, Outcome.CAPPED, dtype=torch.long),
            num_steps=torch.zeros_like(unset, dtype=torch.long),
        )

    def record(
        self,
        rows: Int[Tensor, " r"],
        step: int,
        mask_logits: Float[Tensor, "r k s t"],
        teacher_logits: Float[Tensor, "r n"],
        membership: Bool[Tensor, "r n"],
        *,
        may_end: bool,
    ) -> Bool[Tensor, " r"]:
        """Take in one tested step of the active sets; give which of them go on."""
        finite = teacher_logits.isfinite().all(dim=1) & mask_logits.isfinite().all(dim=(1, 2, 3))
        margins = criterion.margin(teacher_logits, membership)
        improved = finite & (margins > self.margins[rows]) if may_end else torch.full_like(finite, step == 0)
        if may_end or step == 0:
            self.mask_logits[rows] = torch.where(improved[:, None, None, None], mask_logits, self.mask_logits[rows])
            self.teacher_logits[rows] = torch.where(improved[:, None], teacher_logits, self.teacher_logits[rows])
        if may_end:
            self.margins[rows] = torch.where(improved, margins, self.margins[rows])
        solved = finite & (margins > 0) & may_end
        ended = torch.where(solved, int(Outcome.SOLVED), int(Outcome.CAPPED))
        self.outcomes[rows] = torch.where(finite, ended, int(Outcome.NON_FINITE))
        self.num_steps[rows] = step
        return finite & ~solved


def solve(
    teacher: Callable[[Float[Tensor, "r c h w"]], Float[Tensor, "r n"]],
    sets: Sets,
    mask_logits: Float[Tensor, "b k s t"],
    *,
    objective: Objective,
    update_rule: UpdateRule,
    max_logit_step: float | None,
    min_steps: int,
    max_steps: int,
) -> Solution:
    """Find the masks of all sets at once (Algorithm 1 of Dabouei et al., 2021).

    A step costs one teacher forward and one input-gradient pass of the sets that are not solved: the forward that tests
    a mix is the one its next gradient comes from. A set that ends leaves at once. The only question that the host asks
    in a step is which sets are left.

    Deviation: the paper may stop before the first step, when the plain average already passes; `min_steps=0` does so.

    Args:
        teacher: Gives logits of images, differentiably.
        sets: The sets to solve.
        mask_logits: Where the masks start.
        objective: The loss of a set.
        update_rule: How the mask logits move.
        max_logit_step: Bound on the largest change of one mask logit in a step; None for none.
        min_steps: Steps before a set may end, >= 0.
        max_steps: Steps after which a set ends as it is, >= min_steps.

    Returns:
        The best masks of each set, and how it ended.
    """
    size = (sets.sources.shape[-2], sets.sources.shape[-1])
    solution = Solution.blank(sets, mask_logits)
    rows = torch.arange(len(mask_logits), device=mask_logits.device)
    for step in range(max_steps + 1):
        last = step == max_steps
        with torch.set_grad_enabled(not last):
            mask_logits = mask_logits.detach().requires_grad_(not last)
            masks = normalized_masks(mask_logits, size)
            logits = teacher(mix_images(sets.sources, masks))
        solution.forwards += len(rows)
        going = solution.record(
            rows, step, mask_logits.detach(), logits.detach(), sets.membership, may_end=step >= min_steps
        )
        if last:
            break
        left = going.nonzero().squeeze(1)
        if len(left) == 0:
            break
        loss = objective(logits, sets.soft_targets, sets.membership, masks)
        (gradient,) = torch.autograd.grad(loss.sum(), mask_logits)
        solution.backwards += len(rows)
        change = bound_step(update_rule.step(loss.detach(), gradient), max_logit_step)
        mask_logits = mask_logits.detach() + change
        if len(left) < len(rows):
            mask_logits, rows, sets = mask_logits[left], rows[left], sets.take(left)
    return solution
