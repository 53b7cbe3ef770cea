"""The loop that solves all sets of a batch to the end; sets that end leave at once."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from supermix_pl.solver.rounds import Rendered, Seen, Show, Solver, TeacherFunction, show_exactly
from supermix_pl.solver.rows import concatenate
from supermix_pl.solver.state import Sets, Solution, SolverState
from supermix_pl.teacher.passes import Chunks, bucket, fill_up, in_chunks


def solve(
    solver: Solver,
    teacher: TeacherFunction,
    sets: Sets,
    mask_logits: Float[Tensor, "b k s t"],
    *,
    show: Show = show_exactly,
    chunks: Chunks | None = None,
    static_shapes: bool = False,
) -> Solution:
    """Find the masks of all sets at once (Algorithm 1 of Dabouei et al., 2021).

    A step costs one teacher forward and one input-gradient pass of the sets that are not solved: the forward that tests
    a mix is the one its next gradient comes from. A set that ends leaves at once. The only question that the host asks
    in a step, once a chunk, is which sets are left; of sets that all take the same number of steps it asks none.

    Deviation: the paper may stop before the first step, when the plain average already passes; `min_steps=0` does so.

    Args:
        solver: How.
        teacher: Returns logits of images, differentiably.
        sets: The sets to solve.
        mask_logits: Where the masks start.
        show: Shows the mixes of a round, of all sets that are left, before they are cut into chunks.
        chunks: How many sets the teacher sees at once.
        static_shapes: Whether the mixes are filled up to a power of two, for a teacher that is compiled for each
            number of images. What is filled up counts as passes.
    """
    state = SolverState.start(mask_logits, sets.soft_targets.shape[1])
    if not solver.early_stop:
        for _ in range(solver.max_steps):
            state, _, _ = advance(solver, teacher, sets, state, show, chunks)
        passed = solver.max_steps * len(mask_logits)
        return Solution.of(state, passed, passed)
    ended = SolverState.start(mask_logits, sets.soft_targets.shape[1])
    rows = torch.arange(len(mask_logits), device=mask_logits.device)
    passes = _Passes(solver, teacher, chunks, len(mask_logits) if static_shapes else None)
    forwards = backwards = 0
    for step in range(solver.max_steps + 1):
        last = step == solver.max_steps
        rendered = solver.render(sets, state, show, with_gradient=not last)
        seen, shown, moved = passes.of(sets, state, rendered, with_gradient=not last)
        forwards, backwards = forwards + shown, backwards + moved
        state = solver.record(sets, state, seen.logits)
        left = state.running.nonzero().squeeze(1)
        if not last and len(left):
            state = solver.update(state, rendered, seen)
        if len(left) < len(rows):
            ended.put(rows, state)
        if len(left) == 0:
            break
        if len(left) < len(rows):
            state, rows, sets = state.take(left), rows[left], sets.take(left)
    return Solution.of(ended, forwards, backwards)


def advance(
    solver: Solver,
    teacher: TeacherFunction,
    sets: Sets,
    state: SolverState,
    show: Show = show_exactly,
    chunks: Chunks | None = None,
) -> tuple[SolverState, Rendered, Seen]:
    """Do one round of all sets without a question to the device: each is shown, and moved where it goes on.

    Shapes stay as they are from round to round; the host waits for nothing. Sets that have ended are left alone.

    Returns:
        Where the sets stand now, what the teacher was shown before they moved, and what it gave for that.
    """
    rendered = solver.render(sets, state, show)

    def see(rows: slice) -> Seen:
        return solver.see(teacher, sets if rows == slice(None) else sets.take(rows), rendered.images[rows])

    seen = concatenate(in_chunks(see, len(state.running), chunks))
    state = solver.update(solver.record(sets, state, seen.logits), rendered, seen)
    return state, replace(rendered, masks=rendered.masks.detach(), images=rendered.images.detach()), seen


@dataclass(frozen=True)
class _Passes:
    """The teacher's passes of a round in which sets may end; filled up to shapes that repeat, of `most` sets."""

    solver: Solver
    teacher: TeacherFunction
    chunks: Chunks | None
    most: int | None

    def of(self, sets: Sets, state: SolverState, rendered: Rendered, *, with_gradient: bool) -> tuple[Seen, int, int]:
        """Show all sets; give what the teacher says, and the images that passed forward and backward."""

        def see(rows: slice) -> tuple[Seen, int, int]:
            part = (sets, state) if rows == slice(None) else (sets.take(rows), state.take(rows))
            shown = self._shown(len(part[1].running))
            teacher = self.teacher if self.most is None else partial(self._fill_up_and_show, shown)
            moves = False

            def goes_on(logits: Float[Tensor, "r n"]) -> bool:
                nonlocal moves
                moves = with_gradient and bool(self.solver.record(*part, logits).running.any())
                return moves

            seen = self.solver.see(teacher, part[0], rendered.images[rows], goes_on)
            return seen, shown, shown if moves else 0

        parts = in_chunks(see, len(state.running), self.chunks)
        forwards, backwards = sum(part[1] for part in parts), sum(part[2] for part in parts)
        return concatenate([part[0] for part in parts]), forwards, backwards

    def _shown(self, rows: int) -> int:
        if self.most is None:
            return rows
        return bucket(rows, self.most if self.chunks is None else self.chunks.size(self.most))

    def _fill_up_and_show(self, shown: int, images: Float[Tensor, "r c h w"]) -> Float[Tensor, "r n"]:
        return self.teacher(fill_up(images, shown))[: len(images)]
