"""The loop that solves all sets of a batch to the end; sets that end leave at once."""

import torch
from jaxtyping import Float
from torch import Tensor

from supermix_pl.solver.rounds import Solver, TeacherFunction
from supermix_pl.solver.state import Sets, Solution, SolverState


def solve(solver: Solver, teacher: TeacherFunction, sets: Sets, mask_logits: Float[Tensor, "b k s t"]) -> Solution:
    """Find the masks of all sets at once (Algorithm 1 of Dabouei et al., 2021).

    A step costs one teacher forward and one input-gradient pass of the sets that are not solved: the forward that tests
    a mix is the one its next gradient comes from. A set that ends leaves at once. The only question that the host asks
    in a step is which sets are left.

    Deviation: the paper may stop before the first step, when the plain average already passes; `min_steps=0` does so.

    Args:
        solver: How.
        teacher: Gives logits of images, differentiably.
        sets: The sets to solve.
        mask_logits: Where the masks start.

    Returns:
        The best masks of each set, and how it ended.
    """
    state = SolverState.start(sets, mask_logits)
    ended = SolverState.start(sets, mask_logits)
    rows = torch.arange(len(mask_logits), device=mask_logits.device)
    forwards = backwards = 0
    for step in range(solver.max_steps + 1):
        state, tested = solver.test(teacher, sets, state, with_gradient=step < solver.max_steps)
        forwards += len(rows)
        left = state.running.nonzero().squeeze(1)
        if len(left) < len(rows):
            ended.put(rows, state)
        if len(left) == 0:
            break
        state = solver.update(state, tested)
        backwards += len(rows)
        if len(left) < len(rows):
            state, rows, sets = state.take(left), rows[left], sets.take(left)
    return Solution.of(ended, forwards, backwards)
