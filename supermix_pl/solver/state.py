"""What is known of sets while they are solved, as values: what to solve, where each set stands, how it ended."""

from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from supermix_pl.solver.criterion import class_membership, soft_targets
from supermix_pl.solver.rows import Rows


class Outcome(IntEnum):
    """How a set ended."""

    SOLVED = 0
    """The teacher's top classes of the mix are the classes of its sources."""
    CAPPED = 1
    """`max_steps` steps did not suffice."""
    NON_FINITE = 2
    """The teacher's logits or the masks became NaN or infinite."""


@dataclass(frozen=True)
class Sets(Rows):
    """What is to be solved: the sources of b sets and what the teacher should see in their mixes.

    The latter are Eq. 2 and the distinct classes Y; `keys` name the stream of chance that the views are drawn from.
    """

    sources: Float[Tensor, "b k c h w"]
    soft_targets: Float[Tensor, "b n"]
    membership: Bool[Tensor, "b n"]
    keys: Int[Tensor, " b"]

    @classmethod
    def of(
        cls,
        sources: Float[Tensor, "b k c h w"],
        classes: Int[Tensor, "b k"],
        mix_weights: Float[Tensor, "b k"],
        num_classes: int,
        keys: Int[Tensor, " b"],
    ) -> "Sets":
        """Derive what the teacher should see from the classes and the weights of the sources."""
        targets = soft_targets(classes, mix_weights, num_classes)
        return cls(sources, targets, class_membership(classes, num_classes), keys)


@dataclass
class SolverState(Rows):
    """Where b sets stand between two rounds."""

    mask_logits: Float[Tensor, "b k s t"]  # the masks to test next
    last_change: Float[Tensor, "b k s t"]  # what the last update added to them; 0 before the first
    # Those that the set would end with: of the test with the largest margin among those that may end a set, or the
    # last ones where all sets take the same number of steps
    best_mask_logits: Float[Tensor, "b k s t"]
    teacher_logits: Float[Tensor, "b n"]  # the teacher's logits of that test, or of the last one
    margins: Float[Tensor, " b"]  # its margin, -inf before the first such test
    outcomes: Int[Tensor, " b"]  # an `Outcome` a set; of a set that goes on, what it would end as now
    num_steps: Int[Tensor, " b"]  # updates that `mask_logits` have had
    running: Bool[Tensor, " b"]  # which sets go on

    @classmethod
    def start(cls, mask_logits: Float[Tensor, "b k s t"], num_classes: int) -> "SolverState":
        """Start with the initial masks and nothing known of them."""
        unset = mask_logits.new_full((len(mask_logits),), -torch.inf)
        return cls(
            mask_logits=mask_logits.clone(),
            last_change=torch.zeros_like(mask_logits),
            best_mask_logits=mask_logits.clone(),
            teacher_logits=mask_logits.new_zeros(len(mask_logits), num_classes),
            margins=unset,
            outcomes=torch.full_like(unset, Outcome.CAPPED, dtype=torch.long),
            num_steps=torch.zeros_like(unset, dtype=torch.long),
            running=torch.ones_like(unset, dtype=torch.bool),
        )


@dataclass
class Solution:
    """The masks found for each set, the best or last ones of its state, and the teacher's passes in both directions.

    Where the last masks count, `teacher_logits` are those of the test before they moved.
    """

    mask_logits: Float[Tensor, "b k s t"]
    teacher_logits: Float[Tensor, "b n"]
    margins: Float[Tensor, " b"]
    outcomes: Int[Tensor, " b"]
    num_steps: Int[Tensor, " b"]
    forwards: int
    backwards: int

    @classmethod
    def of(cls, state: SolverState, forwards: int, backwards: int) -> "Solution":
        """Read the result off the state of sets that have ended."""
        return cls(
            mask_logits=state.best_mask_logits,
            teacher_logits=state.teacher_logits,
            margins=state.margins,
            outcomes=state.outcomes,
            num_steps=state.num_steps,
            forwards=forwards,
            backwards=backwards,
        )
