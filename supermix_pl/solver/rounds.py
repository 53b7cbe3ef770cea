"""One round of all sets at once: the mix is shown to the teacher, and masks that go on move by the gradient of that."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.solver import criterion
from supermix_pl.solver.masks import mix_images, normalized_masks
from supermix_pl.solver.objective import Objective
from supermix_pl.solver.rows import Rows
from supermix_pl.solver.state import Outcome, Sets, SolverState
from supermix_pl.solver.update_rules import UpdateRule, bound_step
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.teacher.outputs import image_gradient

TeacherFunction = Callable[[Float[Tensor, "r c h w"]], Float[Tensor, "r n"]]
"""Returns logits of images, differentiably."""

Show = Callable[[Float[Tensor, "b c h w"], Int[Tensor, " b"], Int[Tensor, " b"]], Float[Tensor, "b c height width"]]
"""Shows mixes under a view, differentiably: from the keys of the sets and the number of the look at each."""


def show_exactly(
    mixes: Float[Tensor, "b c h w"], keys: Int[Tensor, " b"], rounds: Int[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """Show the exact pixels, as the paper does."""
    return mixes


@dataclass(frozen=True)
class Rendered:
    """What the teacher is to see of all sets in a round, and the losses of their masks, with a graph to these."""

    mask_logits: Float[Tensor, "b k s t"]
    masks: Float[Tensor, "b k h w"]
    images: Float[Tensor, "b c height width"]
    mask_losses: Float[Tensor, " b"]


@dataclass(frozen=True)
class Seen(Rows):
    """What the teacher gives for some of the sets, and the part of the loss that reads it.

    The gradients are those of these losses with respect to the images, 0 where none were asked for.
    """

    logits: Float[Tensor, "r n"]
    losses: Float[Tensor, " r"]
    gradients: Float[Tensor, "r c h w"]
    features: Float[Tensor, "r ..."] | None = None


@dataclass(frozen=True, kw_only=True)
class Solver:
    """How sets are solved: a step of Algorithm 1 of Dabouei et al., 2021, for sets that need not be at the same step.

    The settings are those of `SuperMix`. The momentum, a share of the last change that is added to the rule's before
    the bound, is Nesterov's: the masks of the next round are those to which it alone would carry them.
    """

    objective: Objective
    update_rule: UpdateRule
    max_logit_step: float | None
    min_steps: int
    max_steps: int
    momentum: float = 0.0
    early_stop: bool = True

    def render(self, sets: Sets, state: SolverState, show: Show, *, with_gradient: bool = True) -> Rendered:
        """Mix all sets, and show them."""
        size = (sets.sources.shape[-2], sets.sources.shape[-1])
        with torch.set_grad_enabled(with_gradient):
            mask_logits = state.mask_logits.detach().requires_grad_(with_gradient)
            masks = normalized_masks(mask_logits, size)
            images = show(mix_images(sets.sources, masks), sets.keys, state.num_steps)
            return Rendered(mask_logits, masks, images, self.objective.of_masks(masks))

    def see(
        self,
        teacher: TeacherFunction,
        sets: Sets,
        images: Float[Tensor, "r c h w"],
        goes_on: Callable[[Float[Tensor, "r n"]], bool] | None = None,
    ) -> Seen:
        """Show images of `render` to the teacher: one forward a set, and one row of input gradient if one goes on.

        `goes_on` is asked after the forward; None where gradients are needed anyway.
        """
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            logits, features = teacher.look(images) if isinstance(teacher, FrozenTeacher) else (teacher(images), None)
            losses = self.objective.of_logits(logits, sets.soft_targets, sets.membership)
        if goes_on is not None and not goes_on(logits.detach()):
            return Seen(logits.detach(), losses.detach(), torch.zeros_like(images))
        return Seen(logits.detach(), losses.detach(), image_gradient(losses.sum(), images), features)

    def record(self, sets: Sets, state: SolverState, logits: Float[Tensor, "b n"]) -> SolverState:
        """Take in what the teacher says of the masks: keep the best of those that may end a set, and see who ends."""
        finite = logits.isfinite().all(dim=1) & state.mask_logits.isfinite().all(dim=(1, 2, 3))
        margins = criterion.margin(logits, sets.membership)
        may_end = state.num_steps >= self.min_steps
        solved, best, goes_on = finite & (margins > 0), state.best_mask_logits, state.running & finite
        if self.early_stop:
            better = torch.where(may_end, finite & (margins > state.margins), state.num_steps == 0) & state.running
            best = torch.where(better[:, None, None, None], state.mask_logits, best)
            solved = solved & may_end
            goes_on = goes_on & ~(solved | (state.num_steps >= self.max_steps))
        else:  # `update` takes the last masks, and sees who ends
            better = goes_on
        ended = torch.where(solved, int(Outcome.SOLVED), int(Outcome.CAPPED))
        outcomes = torch.where(finite, ended, int(Outcome.NON_FINITE))
        return replace(
            state,
            best_mask_logits=best,
            teacher_logits=torch.where(better[:, None], logits, state.teacher_logits),
            margins=torch.where(better & may_end, margins, state.margins),
            outcomes=torch.where(state.running, outcomes, state.outcomes),
            running=goes_on,
        )

    def update(self, state: SolverState, rendered: Rendered, seen: Seen) -> SolverState:
        """Move the masks of the sets that go on."""
        (gradient,) = torch.autograd.grad(
            [rendered.images, rendered.mask_losses.sum()], rendered.mask_logits, [seen.gradients, None]
        )
        step = self.update_rule.step(seen.losses + rendered.mask_losses.detach(), gradient)
        change = bound_step(step + self.momentum * state.last_change, self.max_logit_step)
        running = state.running[:, None, None, None]
        ahead = self.momentum * change
        # `mask_logits` are ahead of where the last change led by the momentum, which is taken back
        reached = state.mask_logits.detach() - self.momentum * state.last_change + change
        moved = torch.where(running, reached + ahead, state.mask_logits)
        num_steps = state.num_steps + state.running
        state = replace(
            state, mask_logits=moved, last_change=torch.where(running, change, state.last_change), num_steps=num_steps
        )
        if self.early_stop:
            return state
        best = torch.where(running, reached, state.best_mask_logits)
        return replace(state, best_mask_logits=best, running=state.running & (num_steps < self.max_steps))
