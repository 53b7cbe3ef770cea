"""The tables of the GPU's benchmark: what was checked, and the training steps."""

from collections.abc import Sequence
from statistics import mean, median

from supermix_pl.experiments.bench.gpu_checks import Check
from supermix_pl.experiments.bench.gpu_numbers import Steps
from supermix_pl.experiments.bench.step import verdicts
from supermix_pl.experiments.bench.step_training import REFERENCE
from supermix_pl.experiments.bench.tables import Table, median_cell

_NOTES = (
    (
        "A step in bfloat16: the teacher's pass of the natural images, mixing, and the student's step on these and as "
        f"many mixes, by the distillation loss. Ratio: within a block, to {REFERENCE}, a stream whose mixes the "
        "teacher labels too, with passes compiled as the row says. Median (least - most) over the blocks. Forwards, "
        "backwards: the teacher's a mix that is shown."
    ),
    (
        "Untrained: without weights from --checkpoint; batch norm and last layer are fitted to the batch, so that "
        "classes differ, and nothing else is learnt. What holds means nothing there."
    ),
)


def tables(checks: Sequence[Check], results: Sequence[Steps]) -> list[Table]:
    """Lay out the checks and the steps."""
    found = []
    if checks:
        rows = [(check.name, "passed" if check.passed else "FAILED", check.found) for check in checks]
        found.append(Table(title="Checks", columns=("check", "", "found"), rows=rows))
    if results:
        columns = ("teacher, student", "batch", "passes", "step", "ms", "ratio", "forwards", "backwards", "goals")
        rows = [row for steps in results for row in _rows(steps)]
        found.append(Table(title="Training steps", columns=columns, rows=rows, notes=_NOTES))
    return found


def _rows(steps: Steps) -> list[tuple[str, ...]]:
    names = f"{steps.teacher}{'' if steps.trained else ' (untrained)'}, {steps.student}"
    first = (names, f"{steps.batch_size} + {steps.batch_size}", "compiled" if steps.compiled else "eager")
    if steps.error:
        return [(*first, steps.error.partition(":")[0], *["-"] * 5)]
    rows = []
    for name, timing in steps.timings.items():
        ratios = timing.ratios(steps.timings[REFERENCE])
        passes = mean(timing.forwards), mean(timing.backwards)
        cells = (median_cell([1000 * each for each in timing.seconds], 1), median_cell(ratios, 3))
        shown = (f"{passes[0]:.2f}", f"{passes[1]:.2f}", verdicts(name, median(ratios), *passes))
        rows.append((*first, name, *cells, *shown))
    return rows
