"""One round of all sets at once: the mix is tested, and sets that go on get new masks from the gradient of the test."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from supermix_pl.solver import criterion
from supermix_pl.solver.masks import mix_images, normalized_masks
from supermix_pl.solver.objective import Objective
from supermix_pl.solver.state import Outcome, Sets, SolverState
from supermix_pl.solver.update_rule import UpdateRule, bound_step

TeacherFunction = Callable[[Float[Tensor, "r c h w"]], Float[Tensor, "r n"]]
"""Gives logits of images, differentiably."""


@dataclass(frozen=True)
class Tested:
    """What a test leaves behind for the update.

    Attributes:
        mask_logits: The tested ones, the leaves of the graph.
        loss: Of every set.
    """

    mask_logits: Float[Tensor, "b k s t"]
    loss: Float[Tensor, " b"]


@dataclass(frozen=True, kw_only=True)
class Solver:
    """How sets are solved: a step of Algorithm 1 of Dabouei et al., 2021, for sets that need not be at the same step.

    Args:
        objective: The loss of a set.
        update_rule: How the mask logits move.
        max_logit_step: Bound on the largest change of one mask logit in a step; None for none.
        min_steps: Steps before a set may end, >= 0.
        max_steps: Steps after which a set ends as it is, >= min_steps.
        momentum: Share of the last change that is added to the rule's, before the bound, in [0, 1).
    """

    objective: Objective
    update_rule: UpdateRule
    max_logit_step: float | None
    min_steps: int
    max_steps: int
    momentum: float = 0.0

    def test(
        self, teacher: TeacherFunction, sets: Sets, state: SolverState, *, with_gradient: bool = True
    ) -> tuple[SolverState, Tested]:
        """Show the mixes to the teacher: one forward a set.

        Args:
            teacher: Gives logits of images.
            sets: What is to be solved.
            state: Where the sets stand; those that have ended are left alone.
            with_gradient: Whether an update is to follow.

        Returns:
            Where they stand now, with the same masks, and what `update` needs.
        """
        size = (sets.sources.shape[-2], sets.sources.shape[-1])
        with torch.set_grad_enabled(with_gradient):
            mask_logits = state.mask_logits.detach().requires_grad_(with_gradient)
            masks = normalized_masks(mask_logits, size)
            logits = teacher(mix_images(sets.sources, masks))
            loss = self.objective(logits, sets.soft_targets, sets.membership, masks)
        return self._record(sets, state, logits.detach()), Tested(mask_logits, loss)

    def update(self, state: SolverState, tested: Tested) -> SolverState:
        """Move the masks of the sets that go on: one row of input gradient a set."""
        (gradient,) = torch.autograd.grad(tested.loss.sum(), tested.mask_logits)
        step = self.update_rule.step(tested.loss.detach(), gradient)
        change = bound_step(step + self.momentum * state.last_change, self.max_logit_step)
        moved, running = state.mask_logits.detach() + change, state.running[:, None, None, None]
        return replace(
            state,
            mask_logits=torch.where(running, moved, state.mask_logits),
            last_change=torch.where(running, change, state.last_change),
            num_steps=state.num_steps + state.running,
        )

    def _record(self, sets: Sets, state: SolverState, logits: Float[Tensor, "b n"]) -> SolverState:
        """Take in the tested masks: keep them where they are the best so far, and see who ends."""
        finite = logits.isfinite().all(dim=1) & state.mask_logits.isfinite().all(dim=(1, 2, 3))
        margins = criterion.margin(logits, sets.membership)
        may_end = state.num_steps >= self.min_steps
        better = torch.where(may_end, finite & (margins > state.margins), state.num_steps == 0) & state.running
        solved = finite & (margins > 0) & may_end
        ended = torch.where(solved, int(Outcome.SOLVED), int(Outcome.CAPPED))
        outcomes = torch.where(finite, ended, int(Outcome.NON_FINITE))
        return replace(
            state,
            best_mask_logits=torch.where(better[:, None, None, None], state.mask_logits, state.best_mask_logits),
            teacher_logits=torch.where(better[:, None], logits, state.teacher_logits),
            margins=torch.where(better & may_end, margins, state.margins),
            outcomes=torch.where(state.running, outcomes, state.outcomes),
            running=state.running & finite & ~solved & (state.num_steps < self.max_steps),
        )
