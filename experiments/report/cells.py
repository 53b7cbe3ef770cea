"""The cells of a printed table: the paper's number and what the runs measured."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from supermix_pl.experiments.report.blocks import Block, teachers
from supermix_pl.experiments.report.trials import Measured, Trials
from supermix_pl.experiments.shared.runs.paper import PaperTable, Reported, load
from supermix_pl.experiments.shared.statistics import Summary

MISSING = "-"
TEACHER = "teacher"
_TIE = 1e-4  # points: what float32 may add to equal accuracies


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number of the paper's, a measured one, or both.

    Args:
        column: Network or pair.
        metric: "top1" or "top5".
        method: Row of the paper's table.
        row: Row of the printed one: the method, and what sets its trials apart.
        paper: The paper's number, if it has one.
        trials: The runs, if there are any.
        measured: What they measured. A teacher has no trials, and one accuracy.
    """

    column: str
    metric: str
    method: str
    row: str
    paper: Reported | None
    trials: Trials | None = None
    measured: Measured | None = None

    def summary(self, *, best: bool) -> Summary | None:
        """Return the last or the best epoch."""
        return self.measured and (self.measured.best if best else self.measured.last)

    def star(self, *, best: bool) -> bool:
        """Return whether the mean is above the measured teacher's accuracy."""
        summary, teacher = self.summary(best=best), self.measured and self.measured.teacher
        return summary is not None and teacher is not None and summary.mean > teacher + _TIE

    def difference(self, *, best: bool) -> float | None:
        """Return measured - paper, in points."""
        summary = self.summary(best=best)
        return None if summary is None or self.paper is None else summary.mean - self.paper.value

    def text(self, *, best: bool, stars: bool) -> str:
        """Write mean, star and standard deviation."""
        summary = self.summary(best=best)
        if summary is None:
            return MISSING
        spread = "" if summary.deviation is None else f" ± {summary.deviation:.2f}"
        return f"{summary.mean:.2f}{'*' * (stars and self.star(best=best))}{spread}"


def cells(table: PaperTable, block: Block) -> Iterator[Cell]:
    """Yield the cells of a block, column by column and row by row: the table's, and others that have runs."""
    for column, metric in _columns(table, block):
        paper = table.columns[column].numbers[metric] if column in table.columns else {}
        for method in _methods(table, block):
            cell = Cell(column=column, metric=metric, method=method, row=method, paper=paper.get(method))
            if method == TEACHER:
                yield from _teachers(cell, block)
                continue
            for row in block.rows(method):
                trials = block.cell(column, row)
                yield replace(cell, row=row, trials=trials, measured=trials and trials.measured(metric))


def _columns(table: PaperTable, block: Block) -> list[tuple[str, str]]:
    """List columns and metrics: the table's with the block's data or with runs; without a table, those with runs."""
    ran = sorted({trials.column for trials in block.trials})
    if not table.columns:
        return [(column, metric) for metric in _metrics(block) for column in ran]
    return [
        (name, metric)
        for name, column in table.columns.items()
        if name in ran or column.dataset == block.budget.dataset
        for metric in column.numbers
    ]


def _metrics(block: Block) -> tuple[str, ...]:
    return ("top1", "top5") if block.budget.dataset == "imagenet" else ("top1",)


def _methods(table: PaperTable, block: Block) -> list[str]:
    order = list(table.methods or load().methods)
    measured = {trials.method for trials in block.trials}
    if any(teachers(block, column, metric) for column, metric in _columns(table, block)):
        measured.add(TEACHER)
    others = sorted(measured - set(order), key=lambda method: (method != TEACHER, method))
    known = [method for method in order if table.methods or method in measured]
    return [*others, *known] if TEACHER in others else [*known, *others]


def _teachers(cell: Cell, block: Block) -> Iterator[Cell]:
    accuracies = teachers(block, cell.column, cell.metric)
    for accuracy in accuracies:
        once = Summary.of([accuracy])
        assert once is not None
        row = cell.row if len(accuracies) == 1 else f"{cell.row} ({accuracy:.2f})"
        yield replace(cell, row=row, measured=Measured(last=once, best=once, teacher=None))
    if not accuracies:
        yield cell
