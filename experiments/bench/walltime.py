"""The solver's wall time against that of its teacher passes alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench.passes import RecordingTeacher, backwards, forwards, replay, timed
from supermix_pl.experiments.bench.tables import Summary, Table, Target, median_cell

TARGET = Target(what="ratio", limit=1.10)
_WARM_UP_PASSES = 10

_NOTES = (
    (
        "The solver's call, then every teacher pass of that very call replayed without it: the same batch sizes in the "
        "same order, `network(x)` of the network that the solver's teacher ran (batch norm folded), without a graph "
        "where the solver kept none, and the gradient of the logits' sum with respect to x where the solver asked for "
        "one; label forwards included."
    ),
    (
        "Solver and replay alternate after a warm-up of both: a whole call, and the first passes of its replay (the "
        "call has set up the libraries for all shapes). Median (least - most) over the repeats, of the ratio too."
    ),
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One call of the solver and the replay of its passes.

    Args:
        solver_seconds: Wall time of the call.
        bare_seconds: Wall time of the replay.
        calls: Teacher calls.
        forwards: Images passed forward.
        backwards: Rows of input gradients.
    """

    solver_seconds: float
    bare_seconds: float
    calls: int
    forwards: int
    backwards: int

    @property
    def ratio(self) -> float:
        """How much longer the solver takes than its passes."""
        return self.solver_seconds / self.bare_seconds


@dataclass(frozen=True, kw_only=True)
class WallTime:
    """A batch size with every repeat."""

    batch_size: int
    pairs: list[Pair]

    def median_ratio(self) -> float | None:
        """Give the ratio that the target is for."""
        summary = Summary.of([pair.ratio for pair in self.pairs])
        return None if summary is None else summary.median


def warm_up(mixer: SuperMix, teacher: FrozenTeacher, images: Float[Tensor, "b c h w"], *, seed: int) -> None:
    """Let the libraries set themselves up for all shapes of the passes."""
    recording = RecordingTeacher(teacher)
    mixer(recording, images, seed=seed)
    replay(teacher.network(images), images, recording.passes[:_WARM_UP_PASSES])


def time_pair(mixer: SuperMix, teacher: FrozenTeacher, images: Float[Tensor, "b c h w"], *, seed: int) -> Pair:
    """Time the solver and, at once after it, its passes alone.

    Raises:
        RuntimeError: If the solver did not count its passes right.
    """
    recording = RecordingTeacher(teacher)
    mix, solver_seconds = timed(lambda: mixer(recording, images, seed=seed), images.device)
    made = recording.passes
    if (forwards(made), backwards(made)) != (mix.teacher_forwards, mix.teacher_backwards):
        raise RuntimeError(
            f"expected {mix.teacher_forwards} forwards and {mix.teacher_backwards} backwards, as the mix says, got "
            f"{forwards(made)} and {backwards(made)}"
        )
    network = teacher.network(images)
    _, bare_seconds = timed(lambda: replay(network, images, made), images.device)
    return Pair(
        solver_seconds=solver_seconds,
        bare_seconds=bare_seconds,
        calls=len(made),
        forwards=forwards(made),
        backwards=backwards(made),
    )


def table(results: Sequence[WallTime]) -> Table:
    """Lay the batch sizes out, with their targets."""
    rows = [
        (
            f"batch of {result.batch_size}",
            str(result.pairs[0].calls),
            f"{result.pairs[0].forwards} / {result.pairs[0].backwards}",
            median_cell([pair.solver_seconds for pair in result.pairs], 3),
            median_cell([pair.bare_seconds for pair in result.pairs], 3),
            median_cell([pair.ratio for pair in result.pairs], 3),
            TARGET.verdict(result.median_ratio()),
        )
        for result in results
    ]
    columns = ("wall time", "calls", "forwards / backwards", "solver s", "bare s", "ratio", "target")
    return Table(title="Wall time against bare teacher passes", columns=columns, rows=rows, notes=_NOTES)
