"""Read run folders into one table, a row a run, and divide it into blocks: the runs of one budget each."""

# pandas' own types do not tell a DataFrame from a Series
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas.core.groupby import DataFrameGroupBy

from supermix_pl.experiments.shared.runs.budget import Budget, as_text, budget, differences, label, training, under
from supermix_pl.experiments.shared.runs.folders import Problem, find_runs
from supermix_pl.experiments.shared.runs.identity import place

METRICS = {
    "top1": {"last": "test/accuracy", "best": "val/accuracy_best", "teacher": "teacher/accuracy"},
    "top5": {"last": "test/accuracy_top5", "best": "val/accuracy_top5_best", "teacher": "teacher/accuracy_top5"},
}
DIVERGED = "diverged"  # 1 where weights are not finite at the end
COUNTS = ("epochs", "steps", "student_samples")
FIDELITY = {"agreement": "test/teacher_agreement", "divergence": "test/teacher_kl"}
TEACHER = METRICS["top1"]["teacher"]
_CELL = ["column", "method"]
_NAMES = (
    *("folder", "seed", "written", "config", "settings", "overrides", "budget", "protocol", "scale", "table"),
    *_CELL,
)


@dataclass(kw_only=True)
class Block:
    """The runs of a table that share a budget.

    Runs that differ in nothing but the seed have one `trial`, and the name of its `row`: the method and a `label` that
    tells its trials apart, which may be empty.
    """

    budget: Budget
    title: str  # the budget, told apart from other blocks'
    runs: pd.DataFrame  # those that count, as `read` returns them, with `trial`, `label` and `row`
    not_counted: list[str]  # older runs of the same seeds

    def diverged(self) -> list[str]:
        """Name the runs whose weights were not finite at the end; they count like the others."""
        return [f"{folder} diverged, and counts." for folder in self.runs.loc[self.runs[DIVERGED] == 1, "folder"]]

    def trials(self) -> DataFrameGroupBy:
        """Return the runs, grouped by what they are seeds of."""
        return self.runs.groupby("trial", sort=False)

    def teachers(self, column: str, metric: str = "top1") -> list[float]:
        """Return the accuracies in % of a column's teachers, as its runs measured them; those of a tenth are one."""
        measured = 100 * self.runs.loc[self.runs["column"] == column, METRICS[metric]["teacher"]].dropna()
        return list(measured.groupby(measured.round(1)).first())


def read(folders: Sequence[Path]) -> tuple[pd.DataFrame, list[Problem]]:
    """Read the finished runs in folders, and what is there and is none; a `ValueError` says that there is nothing.

    A row a run: what it is a run of, its config, the settings that decide on its training, and all its metrics.
    """
    found, problems = find_runs(folders)
    rows = [
        {name: run.number(name) for name in run.metrics}
        | {"folder": str(run.folder), "seed": run.seed, "written": run.written, "config": run.config}
        | {"settings": training(run.config), "overrides": run.origin().get("overrides", []), "budget": budget(run)}
        | {"protocol": run.name_of("protocol"), "scale": run.name_of("scale"), **vars(place(run))}
        for run in found
    ]
    known = [name for names in METRICS.values() for name in names.values()]
    measured = dict.fromkeys([*known, *COUNTS, *FIDELITY.values(), DIVERGED, *(name for row in rows for name in row)])
    numbers = [name for name in measured if name not in _NAMES]
    runs = pd.DataFrame(rows, columns=[*_NAMES, *numbers])
    return runs.astype(dict.fromkeys(numbers, float)), problems


def blocks(runs: pd.DataFrame, table: str) -> list[Block]:
    """Sort the runs of a table into blocks."""
    found = []
    for its_budget, own in runs[runs["table"] == table].groupby("budget", sort=False):
        counted, older = _count(own)
        found.append(Block(budget=its_budget, title=its_budget.title(), runs=counted, not_counted=older))
    _tell_apart(found)
    return sorted(found, key=lambda block: (*block.budget.rank(), block.title))


def in_order(row: str) -> list[str | float]:
    """Return what rows are sorted by: numbers in them by their size.

    >>> sorted(["a (k=10)", "a (k=3.0)", "a (k=0.3)", "a (k=0.25)"], key=in_order)
    ['a (k=0.25)', 'a (k=0.3)', 'a (k=3.0)', 'a (k=10)']
    """
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", row)
    return [float(part) if place % 2 else part for place, part in enumerate(parts)]


def _count(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Divide runs into trials, count the newest run of every seed, and say which ones do not count."""
    settings = [under(teacher, own) for own, teacher in zip(runs["settings"], runs[TEACHER], strict=True)]
    runs = runs.assign(settings=settings, training=[as_text(each) for each in settings])
    runs["cell"] = runs.groupby(_CELL, sort=False).ngroup()
    runs["trial"] = runs.groupby(["cell", "training"], sort=False).ngroup()
    runs = runs.sort_values(["cell", "trial", "seed", "written", "folder"])
    newest = runs.groupby(["trial", "seed"])["folder"].transform("last")
    counts = runs["folder"] == newest
    older = [
        f"{run.folder}: the cell, settings and seed {run.seed} of {kept}, which is newer and counts."
        for run, kept in zip(runs[~counts].itertuples(), newest[~counts], strict=True)
    ]
    return _labelled(runs[counts]), older


def _labelled(runs: pd.DataFrame) -> pd.DataFrame:
    """Label trials with what sets them apart within their cell."""
    cells = {cell: differences(list(own)) for cell, own in runs.groupby(_CELL)["settings"]}
    places = zip(runs["column"], runs["method"], runs["settings"], strict=True)
    labels = [label(settings, cells[column, method]) for column, method, settings in places]
    rows = [f"{method} ({text})" if text else method for method, text in zip(runs["method"], labels, strict=True)]
    return runs.assign(label=labels, row=rows)


def _tell_apart(found: Sequence[Block]) -> None:
    """Give every block a title of its own."""
    titles = [block.title for block in found]
    for block in found:
        same = [dict(other.budget.data) for other, title in zip(found, titles, strict=True) if title == block.title]
        if len(same) > 1:
            block.title += f" ({label(dict(block.budget.data), differences(same))})"
