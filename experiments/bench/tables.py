"""Tables that are printed and written from the same cells, and the summaries and targets in them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table as RichTable


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells with a title and what must be said of them.

    Args:
        title: Above the cells.
        columns: Their heads; the first column is a name, the others are numbers.
        rows: Cells, as many a row as there are columns.
        notes: Below the cells: definitions and conditions.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def rich(self) -> RichTable:
        """Lay it out for a terminal."""
        table = RichTable(title=self.title, title_justify="left", caption="\n".join(self.notes), caption_justify="left")
        for position, column in enumerate(self.columns):
            table.add_column(column, justify="right" if position else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Lay it out as Markdown."""
        rule = ("---", *("---:" for _ in self.columns[1:]))
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.columns, rule, *self.rows)]
        return "\n".join([f"## {self.title}", "", *lines, "", *(f"- {note}" for note in self.notes), ""])


@dataclass(frozen=True, kw_only=True)
class Target:
    """A number that a measurement should reach.

    Args:
        what: What is measured.
        limit: The number.
        at_least: Whether it is a lower limit; otherwise it is an upper one.
    """

    what: str
    limit: float
    at_least: bool = False

    def met(self, value: float | None) -> bool:
        """Tell whether a measured value reaches it; one that could not be measured does not."""
        return value is not None and (value >= self.limit if self.at_least else value <= self.limit)

    def verdict(self, value: float | None) -> str:
        """Say what was wanted and whether it is met."""
        found = "not measured" if value is None else "met" if self.met(value) else "missed"
        return f"{self.what} {'>=' if self.at_least else '<='} {self.limit:g}: {found}"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Centre and spread of a measurement that was repeated."""

    mean: float
    deviation: float
    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Summary | None":
        """Summarise what could be measured; None if nothing could."""
        numbers = [value for value in values if value is not None]
        if not numbers:
            return None
        return cls(
            mean=statistics.fmean(numbers),
            deviation=statistics.stdev(numbers) if len(numbers) > 1 else 0.0,
            median=statistics.median(numbers),
            least=min(numbers),
            most=max(numbers),
        )


def mean_cell(values: Sequence[float | None], digits: int) -> str:
    """Write mean and standard deviation."""
    summary = Summary.of(values)
    if summary is None:
        return "-"
    return f"{summary.mean:.{digits}f}" + (f" ± {summary.deviation:.{digits}f}" if len(values) > 1 else "")


def median_cell(values: Sequence[float | None], digits: int) -> str:
    """Write median, least and most."""
    summary = Summary.of(values)
    if summary is None:
        return "-"
    spread = f" ({summary.least:.{digits}f} - {summary.most:.{digits}f})" if len(values) > 1 else ""
    return f"{summary.median:.{digits}f}{spread}"
