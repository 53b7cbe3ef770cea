"""Visits of sets: on a GPU, where the teacher's passes are to be compiled, as one compiled function."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from supermix_pl.mixing.views import Viewer
from supermix_pl.solver import Sets, Solver, SolverState, advance
from supermix_pl.solver.rounds import TeacherFunction
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.teacher.passes import Chunks
from supermix_pl.transforms import View

_DEVICES = ("cuda",)  # a CPU has no launches to spare
_TRACING: dict[str, Any] = {"trace_autograd_ops": True, "recompile_limit": 64}

Visited = tuple[
    SolverState,
    Float[Tensor, "v k h w"],
    Float[Tensor, "v c height width"],
    Float[Tensor, "v n"],
    Float[Tensor, "v ..."] | None,
]
"""Where the sets stand now; masks, images, logits and features of what the teacher was shown before they moved."""


class Visits:
    """Rounds of sets whose number stays the same, as a solver does them; views are drawn on the host.

    Compiled, mix, view, pass, gradient and update are one function, and one CUDA graph. That gives the same to
    rounding, and needs a view of ours and a teacher that gives no features, takes all sets at once and can be traced.
    """

    def __init__(self, solver: Solver) -> None:
        self._solver = solver
        self._compiled_for: tuple[Any, ...] = ()
        self._run: Callable[..., tuple[Tensor, ...]] | None = None

    def __call__(
        self,
        teacher: FrozenTeacher,
        sets: Sets,
        state: SolverState,
        view: Viewer,
        looks: Int[Tensor, " v"],
        chunk_size: int | None,
    ) -> Visited:
        """Visit the sets, each for the time that `looks` says; these and the keys of the sets are on the host."""
        chunks = Chunks(teacher, chunk_size)
        if self._compiles(teacher, sets, view) and chunks.size(len(looks)) == len(looks):
            visited = self._visit_compiled(sets, state, view, looks)
            if visited is not None:
                return visited
        state, rendered, seen = advance(
            self._solver, teacher, sets, state, lambda mixes, keys, _: view(mixes, keys, looks), chunks
        )
        return state, rendered.masks, rendered.images, seen.logits, seen.features

    def _compiles(self, teacher: FrozenTeacher, sets: Sets, view: Viewer) -> bool:
        """Return whether there is a compiled function for these, which is made anew where they are others."""
        if not teacher.compile or sets.sources.device.type not in _DEVICES or teacher.features is not None:
            return False
        if not isinstance(view.transform, View | None) or not hasattr(torch._dynamo.config, "trace_autograd_ops"):
            return False
        network = teacher.network(teacher.prepare(sets.sources[:2, 0]))
        compiled_for = network, view.transform, view.dtype
        if compiled_for != self._compiled_for:
            mode = "reduce-overhead" if sets.sources.is_cuda else None  # CUDA graphs
            function = _function(self._solver, teacher.traceable(network), view)
            self._run = torch.compile(function, fullgraph=True, dynamic=False, mode=mode)
            self._compiled_for = compiled_for
        return self._run is not None

    def _visit_compiled(self, sets: Sets, state: SolverState, view: Viewer, looks: Int[Tensor, " v"]) -> Visited | None:
        """Visit in one; where that cannot be, say so, and leave it from now on."""
        assert self._run is not None
        drawn = view.draw(sets.sources[:, 0], sets.keys, looks)
        try:
            with torch._dynamo.config.patch(_TRACING):
                torch.compiler.cudagraph_mark_step_begin()
                *after, masks, images, logits = self._run(
                    drawn, sets.sources, sets.soft_targets, sets.membership, *vars(state).values()
                )
        except Exception as error:  # of the compiler, or of the teacher, which the parts raise again
            self._run = None
            reason = " ".join(str(error).split()[:40]) or type(error).__name__
            rank_zero_info(f"Stream engine: the teacher's passes are compiled, but not a whole visit: {reason}")
            return None
        # The next replay of a graph writes over its outputs; the slots take the rest of the state before that
        moved = SolverState(*after)
        return replace(moved, outcomes=moved.outcomes.clone()), masks.clone(), images.clone(), logits.clone(), None


def _function(solver: Solver, teacher: TeacherFunction, view: Viewer) -> Callable[..., tuple[Tensor, ...]]:
    """Return a visit that takes and gives tensors alone, and draws nothing."""

    def visit(
        drawn: Tensor | None, sources: Tensor, soft_targets: Tensor, membership: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        before = SolverState(*state)
        sets = Sets(sources, soft_targets, membership, before.num_steps)  # no view asks for the keys
        after, rendered, seen = advance(
            solver, teacher, sets, before, lambda mixes, keys, looks: view.apply(mixes, drawn)
        )
        return *vars(after).values(), rendered.masks, rendered.images, seen.logits

    return visit
