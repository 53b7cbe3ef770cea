"""Rows and tables of the scaling's benchmark."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from supermix_pl.experiments.bench.acceptance import Trial, shown
from supermix_pl.experiments.bench.scaling_settings import VARIABLES, Point, Setting
from supermix_pl.experiments.bench.tables import Summary, Table, mean_cell, median_cell

REMARK = (
    "Settings and solvers took turns in one process. Passes do not depend on the machine. Times do, and other work may "
    "have run beside: compare only times of one file."
)
_NOTES = (
    "Every series passes through one common setting, and only the named variable changes: points of a series compare.",
    (
        "Forwards and backwards: all rounds that the sets took part in, with the forward that gives the class of the "
        "image in column 0 of each. Holds: the teacher's first k classes are those of the set under a fresh view. Only "
        "sets of k different classes (the teacher's) count."
    ),
    (
        "Passes: mean ± standard deviation over the seeds of the mixing weights. Times: median (least - most) over "
        "them, of whole calls of the mixer, which also label the view, on the sets' part of the passes."
    ),
    (
        "Peak: memory that tensors hold, weights and batch included; on CUDA `max_memory_allocated`, on the CPU the "
        "running sum of the profiler's allocation events."
    ),
)
_VARIABLE_NOTES = {
    "size": (
        "The teacher of small images cannot take others, so the first row is another network, of other data, masks and "
        "number of sets: passes and memory of the two networks do not compare, nor do times. From one size of the "
        "other network to the next the very images and masks are the same."
    ),
    "mask_size": (
        "Sigma grows with the masks, so that updates keep their width on the image. In the other series each solver "
        "has masks of its own."
    ),
    "batch": (
        "The batches up to the common setting's share its images, and the larger ones take more. Who is mixed with "
        "whom depends on the batch."
    ),
}


@dataclass(kw_only=True)
class Measured:
    """A solver in a setting.

    Attributes:
        peak: Bytes that tensors hold at most, weights and batch included.
        trials: One a seed.
    """

    peak: int = 0
    trials: list[Trial] = field(default_factory=list)


Measurements = dict[tuple[Setting, str], Measured]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A point of a series with a solver."""

    point: Point
    solver: str
    peak: int
    trials: list[Trial]

    def values(self, number: str) -> list[float | None]:
        """Give one number of every seed."""
        return [trial.numbers()[number] for trial in self.trials]

    def centre(self, number: str) -> float | None:
        """Give the median of a time over the seeds, and the mean of anything else."""
        summary = Summary.of(self.values(number))
        if summary is None:
            return None
        return summary.median if number.startswith("ms_") else summary.mean

    def numbers(self) -> dict[str, Any]:
        """Give everything, for the JSON file."""
        setting = self.point.setting
        return {
            "variable": self.point.variable,
            "value": self.point.value,
            "teacher": setting.network,
            "batch_size": setting.batch_size,
            "solver": self.solver,
            "mixer": shown(setting.solvers()[self.solver]),
            "peak_bytes": self.peak,
            "trials": [asdict(trial) | trial.numbers() for trial in self.trials],
        }

    def cells(self) -> tuple[str, ...]:
        """Lay it out."""
        share = [None if value is None else 100 * value for value in self.values("solved_share")]
        return (
            str(self.point.value),
            self.point.setting.network,
            self.solver,
            str(self.trials[0].sets),
            mean_cell(share, 1),
            mean_cell(self.values("forwards_an_attempted_set"), 1),
            mean_cell(self.values("backwards_an_attempted_set"), 1),
            median_cell(self.values("ms_an_attempted_set"), 1),
            f"{self.peak / 2**20:.1f}",
        )


def rows(points: Sequence[Point], found: Measurements) -> list[Row]:
    """Join the series with what was measured."""
    return [
        Row(
            point=point,
            solver=solver,
            peak=found[point.setting, solver].peak,
            trials=found[point.setting, solver].trials,
        )
        for point in points
        for solver in point.setting.solvers()
    ]


def tables(rows: Sequence[Row]) -> list[Table]:
    """Lay out a table a variable."""
    columns = ("teacher", "solver", "sets", "holds %", "forwards / set", "backwards / set", "ms / set", "peak MiB")
    found = []
    for variable in dict.fromkeys(row.point.variable for row in rows):
        series = [row for row in rows if row.point.variable == variable]
        notes = [_VARIABLE_NOTES[variable]] if variable in _VARIABLE_NOTES else []
        mixers = {shown(row.point.setting.solvers()[row.solver]): None for row in series[:2]}
        found.append(
            Table(
                title=f"Against {VARIABLES[variable]}",
                columns=(variable, *columns),
                rows=[row.cells() for row in series],
                notes=(*notes, f"Solvers of the first point: {'; '.join(mixers)}."),
            )
        )
    last = found.pop()
    return [*found, Table(title=last.title, columns=last.columns, rows=last.rows, notes=(*last.notes, *_NOTES))]
