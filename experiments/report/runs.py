"""Read run folders into one table, a row a run, and divide it into blocks: the runs of one budget each."""

# pandas' own types do not tell a DataFrame from a Series
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from pandas.core.groupby import DataFrameGroupBy

from supermix_pl.experiments.shared.runs.budget import (
    ACROSS_COLUMNS,
    Budget,
    budget,
    differences,
    label,
    shown,
    training,
)
from supermix_pl.experiments.shared.runs.folders import Problem, find_runs
from supermix_pl.experiments.shared.runs.identity import network, place
from supermix_pl.experiments.shared.runs.paper import load

METRICS = {
    "top1": {"last": "test/accuracy", "best": "val/accuracy_best", "teacher": "teacher/accuracy"},
    "top5": {"last": "test/accuracy_top5", "best": "val/accuracy_top5_best", "teacher": "teacher/accuracy_top5"},
}
COUNTS = ("epochs", "steps", "student_samples")
TEACHER = METRICS["top1"]["teacher"]
_SAME_TEACHER = 1e-3  # of its accuracy: what another device may change
_CELL = ["column", "method"]
_NAMES = ("folder", "seed", "written", "config", "settings", "budget", "protocol", "scale", "network", "table", *_CELL)


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
    borrowed: dict[str, str] = field(default_factory=dict)  # columns, and the one that their plain runs were made for

    def trials(self) -> DataFrameGroupBy:
        """Return the runs, grouped by what they are seeds of."""
        return self.runs.groupby("trial", sort=False)

    def rows(self, method: str) -> list[str]:
        """Return the rows of a method, numbers in their labels in order."""
        rows = self.runs.loc[self.runs["method"] == method, "row"].unique()
        return sorted(rows, key=lambda row: [part.zfill(12) for part in re.split(r"(\d+)", row)]) or [method]

    def teachers(self, column: str, metric: str = "top1") -> list[float]:
        """Return the accuracies in % of a column's teachers, as its runs measured them."""
        measured = self.runs.loc[self.runs["column"] == column, METRICS[metric]["teacher"]]
        return sorted(100 * same_teachers(measured).dropna().unique())


def read(folders: Sequence[Path]) -> tuple[pd.DataFrame, list[Problem]]:
    """Read the finished runs in folders, and what is there and is none; a `ValueError` says that there is nothing.

    A row a run: what it is a run of, its config, the settings that decide on its training, and all its metrics.
    """
    found, problems = find_runs(folders)
    rows = [
        {name: run.number(name) for name in run.metrics}
        | {"folder": str(run.folder), "seed": run.seed, "written": run.written, "config": run.config}
        | {"settings": training(run.config), "budget": budget(run), "network": network(run)}
        | {"protocol": run.name_of("protocol"), "scale": run.name_of("scale"), **vars(place(run))}
        for run in found
    ]
    known = [name for names in METRICS.values() for name in names.values()]
    measured = dict.fromkeys([*known, *COUNTS, *(name for row in rows for name in row)])
    numbers = [name for name in measured if name not in _NAMES]
    runs = pd.DataFrame(rows, columns=[*_NAMES, *numbers])
    return runs.astype(dict.fromkeys(numbers, float)), problems


def blocks(runs: pd.DataFrame, table: str) -> list[Block]:
    """Sort the runs of a table into blocks; plain runs of other tables may be borrowed."""
    of_networks = [name for name, each in load().tables.items() if each.of_networks]
    found = []
    for its_budget, group in runs.groupby("budget", sort=False):
        own = group[group["table"] == table]
        plain = group[(group["method"] == "plain") & ~group["table"].isin(of_networks)]
        if len(own):
            found.append(_block(its_budget, own, plain if table not in of_networks else plain[:0]))
    _tell_apart(found)
    return sorted(found, key=lambda block: (*block.budget.rank(), block.title))


def same_teachers(accuracies: pd.Series) -> pd.Series:
    """Return for each accuracy that of the teacher it belongs to: the least of those with no gap between them."""
    order = accuracies.dropna().sort_values()
    teachers = order.diff().gt(_SAME_TEACHER).cumsum()
    return order.groupby(teachers).transform("first").reindex(accuracies.index)


def _block(its_budget: Budget, own: pd.DataFrame, plain: pd.DataFrame) -> Block:
    borrowed, lent = {}, []
    for column, runs in own.groupby("column", sort=False):
        lenders = plain[plain["network"].isin(runs["network"])]
        if len(lenders) and "plain" not in runs["method"].values:
            borrowed[column] = lenders["column"].value_counts(sort=False).idxmax()
            lent.append(_without_teacher(lenders[lenders["column"] == borrowed[column]]).assign(column=column))
    counted, older = _count(pd.concat([own, *lent], ignore_index=True))
    return Block(budget=its_budget, title=its_budget.title(), runs=counted, not_counted=older, borrowed=borrowed)


def _without_teacher(runs: pd.DataFrame) -> pd.DataFrame:
    """Return plain runs without the teachers that they had no use for."""
    kept = [{name: own[name] for name in own if not name.startswith("teacher.")} for own in runs["settings"]]
    return runs.assign(settings=kept, **{names["teacher"]: math.nan for names in METRICS.values()})


def _count(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Divide runs into trials, count the newest run of every seed, and say which ones do not count."""
    teachers = runs.groupby(_CELL)[TEACHER].transform(same_teachers)
    settings = [
        own if math.isnan(teacher) else own | {TEACHER: f"{100 * teacher:.2f}"}
        for own, teacher in zip(runs["settings"], teachers, strict=True)
    ]
    runs = runs.assign(settings=settings, training=[shown(each) for each in settings])
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
    """Label trials with what sets them apart within their cell, and of their length also within their method."""
    cells = {cell: differences(list(own)) for cell, own in runs.groupby(_CELL)["settings"]}
    methods = {method: differences(list(own)) for method, own in runs.groupby("method")["settings"]}
    labels = []
    for column, method, settings in zip(runs["column"], runs["method"], runs["settings"], strict=True):
        across = [name for name in methods[method] if name in ACROSS_COLUMNS]
        labels.append(label(settings, list(dict.fromkeys([*cells[column, method], *across]))))
    rows = [f"{method} ({text})" if text else method for method, text in zip(runs["method"], labels, strict=True)]
    return runs.assign(label=labels, row=rows)


def _tell_apart(found: Sequence[Block]) -> None:
    """Give every block a title of its own."""
    subsets = {block.budget.dataset for block in found if block.budget.images_per_class < math.inf}
    for block in found:
        if block.budget.images_per_class == math.inf and block.budget.dataset in subsets:
            block.title += ", all images"
    titles = [block.title for block in found]
    for block in found:
        same = [dict(other.budget.data) for other, title in zip(found, titles, strict=True) if title == block.title]
        if len(same) > 1:
            block.title += f" ({label(dict(block.budget.data), differences(same))})"
