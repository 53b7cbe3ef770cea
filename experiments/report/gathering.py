"""A report: what the runs measured beside the paper, and what could not be counted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supermix_pl.experiments.report import cost, tables
from supermix_pl.experiments.report.blocks import Block, blocks
from supermix_pl.experiments.report.records import records
from supermix_pl.experiments.shared.runs.folders import Problem, Run, find_runs
from supermix_pl.experiments.shared.runs.identity import place
from supermix_pl.experiments.shared.runs.paper import PaperTable, load
from supermix_pl.experiments.shared.table import Part

TABLES = ("table1", "table2", "table3", "table4", "table5", "custom")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is printed.

    Args:
        title: Of the whole.
        remarks: Below the title.
        body: The chapters.
        records: Raw numbers of all cells.
        not_counted: What was found and is in no cell.
        seeds: Of the runs.
    """

    title: str
    remarks: list[str]
    body: list[Part]
    records: list[dict[str, Any]]
    not_counted: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which runs count.

    Args:
        protocol: Name of their protocol; None for all.
        scale: Name of their scale; None for all.
    """

    protocol: str | None = None
    scale: str | None = None

    def takes(self, run: Run) -> bool:
        """Return whether a run counts."""
        return all(wanted in (None, run.name_of(node)) for node, wanted in vars(self).items())

    def given(self) -> dict[str, str]:
        """Return what was asked for."""
        return {node: wanted for node, wanted in vars(self).items() if wanted is not None}


def accuracies(name: str, folders: Sequence[Path], choice: Choice, *, best: bool) -> Report:
    """Report a table of accuracies.

    Raises:
        ValueError: If there are no runs of it; says what there is.
    """
    paper = load()
    table = paper.tables[name]
    found, problems = find_runs(folders)
    runs = [run for run in found if choice.takes(run)]
    filled = blocks(runs, name, paper)
    places = [place(run, paper).table for run in runs]
    others = {other: places.count(other) for other in TABLES if other != name and other in places}
    if not filled:
        raise ValueError(_nothing(name, choice, found, problems, others))
    return Report(
        title=table.title,
        remarks=_remarks(table, filled),
        body=[part for block in filled for part in tables.chapter(table, block, best=best)],
        records=[record for block in filled for record in records(table, block)],
        not_counted=_not_counted(problems, filled, others, len(found) - len(runs)),
        seeds=sorted({run.seed for block in filled for trials in block.trials for run in trials.runs}),
    )


def costs(paths: Sequence[Path]) -> Report:
    """Report Table 4.

    Raises:
        ValueError: If there are no measurements of it.
    """
    paper = load().cost
    rows = cost.find_rows(paths)
    return Report(
        title=f"Table 4: {paper['title']}",
        remarks=[*paper["notes"], *cost.NOTES],
        body=[cost.grid(paper, rows)],
        records=list(cost.records(paper, rows)),
    )


def _not_counted(
    problems: Sequence[Problem], filled: Sequence[Block], others: dict[str, int], left_out: int
) -> list[str]:
    lines = [f"{problem.folder}: {problem.reason}." for problem in problems]
    lines += [
        f"{older.folder}: the cell, settings and seed {older.seed} of {newest.folder}, which is newer and counts."
        for block in filled
        for newest, older in block.duplicates
    ]
    if others:
        lines.append(f"Runs of other tables: {_listed(others)}.")
    if left_out:
        lines.append(f"Runs of other protocols or scales: {left_out}.")
    return list(dict.fromkeys(lines))


def _nothing(
    name: str, choice: Choice, found: Sequence[Run], problems: Sequence[Problem], others: dict[str, int]
) -> str:
    there = [f"runs of other tables ({_listed(others)})"] if others else []
    there += [f"{node}s {', '.join(sorted({run.name_of(node) or 'none' for run in found}))}" for node in choice.given()]
    there += [f"{problem.folder} ({problem.reason})" for problem in problems]
    asked = "".join(f", {node} {wanted}" for node, wanted in choice.given().items())
    return f"expected runs of {name}{asked}, found none; there are: {'; '.join(there)}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in counts.items())


def _remarks(table: PaperTable, filled: Sequence[Block]) -> list[str]:
    lines = [
        "Accuracy on the test images in %. What was measured: mean ± standard deviation (n - 1) over the seeds.",
        "Best epoch: of each run, then averaged.",
    ]
    if table.columns:
        lines.append("Differences are measured - paper, in points.")
    if table.stars:
        paper = "; the paper's numbers above its own teacher's" if table.columns else ""
        lines.append(f"*: above the accuracy of the teacher that was measured{paper}.")
    methods = {*table.methods, *(trials.method for block in filled for trials in block.trials)}
    known = {method.partition("_k")[0] for method in methods}
    lines.append("; ".join(f"{name}: {text}" for name, text in load().methods.items() if name in known) + ".")
    bold = [f"{column.title}: {', '.join(column.bold)}" for column in table.columns.values() if column.bold]
    return [*lines, *table.notes, *([f"In bold in the paper: {'; '.join(bold)}."] if bold else [])]
