"""The loop that solves all sets of a batch to the end; sets that end leave at once."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.solver.buckets import bucket, fill_up
from supermix_pl.solver.chunks import Chunks, concatenate, in_chunks
from supermix_pl.solver.rounds import Solver, TeacherFunction
from supermix_pl.solver.state import Sets, Solution, SolverState


def solve(
    solver: Solver,
    teacher: TeacherFunction,
    sets: Sets,
    mask_logits: Float[Tensor, "b k s t"],
    *,
    chunks: Chunks | None = None,
    static_shapes: bool = False,
) -> Solution:
    """Find the masks of all sets at once (Algorithm 1 of Dabouei et al., 2021).

    A step costs one teacher forward and one input-gradient pass of the sets that are not solved: the forward that tests
    a mix is the one its next gradient comes from. A set that ends leaves at once. The only question that the host asks
    in a step, once a chunk, is which sets are left.

    Deviation: the paper may stop before the first step, when the plain average already passes; `min_steps=0` does so.

    Args:
        solver: How.
        teacher: Gives logits of images, differentiably.
        sets: The sets to solve.
        mask_logits: Where the masks start.
        chunks: How many sets the teacher sees at once; None for all.
        static_shapes: Whether the mixes are filled up to a power of two, for a teacher that is compiled for each
            number of images. What is filled up counts as passes.

    Returns:
        The best masks of each set, and how it ended.
    """
    rounds = _Rounds(solver, teacher, chunks, len(mask_logits) if static_shapes else None)
    state = SolverState.start(sets, mask_logits)
    ended = SolverState.start(sets, mask_logits)
    rows = torch.arange(len(mask_logits), device=mask_logits.device)
    forwards = backwards = 0
    for step in range(solver.max_steps + 1):
        work = partial(rounds.work, sets, state, step < solver.max_steps)
        parts = in_chunks(work, len(rows), chunks)
        state = concatenate([part.state for part in parts])
        left = parts[0].left if len(parts) == 1 else torch.cat([part.left for part in parts])
        forwards += sum(part.forwards for part in parts)
        backwards += sum(part.backwards for part in parts)
        if len(left) < len(rows):
            ended.put(rows, state)
        if len(left) == 0:
            break
        if len(left) < len(rows):
            state, rows, sets = state.take(left), rows[left], sets.take(left)
    return Solution.of(ended, forwards, backwards)


@dataclass(frozen=True)
class _Part:
    """What became of some of the sets in a round: where they stand, which go on, and what it cost."""

    state: SolverState
    left: Int[Tensor, " left"]
    forwards: int
    backwards: int


@dataclass(frozen=True)
class _Rounds:
    """Rounds of some of the sets.

    Args:
        solver: How.
        teacher: Gives logits of images.
        chunks: How many sets it sees at once.
        most: Sets that there are in all, for shapes that repeat; None for as many as there are left.
    """

    solver: Solver
    teacher: TeacherFunction
    chunks: Chunks | None
    most: int | None

    def work(self, sets: Sets, state: SolverState, with_gradient: bool, rows: slice) -> _Part:
        """Test sets, and move them if one of them goes on."""
        if rows != slice(None):
            sets, state = sets.take(rows), state.take(rows)
        shown = self._shown(len(state.running))
        teacher = self.teacher if self.most is None else partial(self._fill_up_and_show, shown)
        state, tested = self.solver.test(teacher, sets, state, with_gradient=with_gradient)
        left = state.running.nonzero().squeeze(1)
        if not with_gradient or len(left) == 0:
            return _Part(state, left, shown, 0)
        return _Part(self.solver.update(state, tested), left + (rows.start or 0), shown, shown)

    def _shown(self, rows: int) -> int:
        if self.most is None:
            return rows
        return bucket(rows, self.most if self.chunks is None else self.chunks.size(self.most))

    def _fill_up_and_show(self, shown: int, images: Float[Tensor, "r c h w"]) -> Float[Tensor, "r n"]:
        return self.teacher(fill_up(images, shown))[: len(images)]
