"""Write what was measured beside the paper's numbers: a chapter for each block, and what could not be counted."""

# pandas' own types do not tell a DataFrame from a Series
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from supermix_pl.experiments.report.paper import MISSING, cells, not_comparable, text
from supermix_pl.experiments.report.runs import Block, blocks, read
from supermix_pl.experiments.shared.render import Heading, Notes, Part, Table
from supermix_pl.experiments.shared.runs.paper import TABLES, PaperTable, load

_HEADS = ("method", "paper", "last epoch", "best epoch", "last - paper", "best - paper", "seeds", "epochs", "samples")
_HEADS = (*_HEADS, "agreement %", "KL, nats")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is printed."""

    parts: list[Part]
    records: pd.DataFrame  # raw numbers of all cells, for CSV
    not_counted: list[str]  # what was found and is in no cell
    seeds: list[int]


def accuracies(name: str, folders: Sequence[Path], *, notes: Sequence[str]) -> Report:
    """Report a table of accuracies, below notes of the user's.

    Raises:
        ValueError: If there are no runs of it; says what there is.
    """
    table = load().tables[name]
    runs, problems = read(folders)
    filled = blocks(runs, name)
    others = {other: n for other in TABLES if other != name and (n := int((runs["table"] == other).sum()))}
    if not filled:
        there = [f"runs of other tables ({_listed(others)})"] if others else []
        there += [f"{problem.folder} ({problem.reason})" for problem in problems]
        raise ValueError(f"expected runs of {name}, found none; there are: {'; '.join(there)}")
    left_out = [f"{problem.folder}: {problem.reason}." for problem in problems]
    left_out += [line for block in filled for line in block.not_counted]
    left_out += [f"Runs of other tables: {_listed(others)}."] * bool(others)
    not_counted = list(dict.fromkeys(left_out))
    parts = [Heading(text=table.title, level=1), Notes(lines=(*notes, *_remarks(table, filled)))]
    records = []
    for block in filled:
        found = cells(table, block)
        reasons = not_comparable(table, block) if table.columns else None
        parts += chapter(table, block, found, reasons)
        own = {name: getattr(block.budget, name) for name in ("protocol", "scale", "dataset")}
        comparable = None if reasons is None else not reasons
        records.append(found.assign(table=table.name, budget=block.title, comparable=comparable, **own))
    parts += [Heading(text="Not counted"), Notes(lines=not_counted)] if not_counted else []
    return Report(
        parts=parts,
        records=pd.concat(records),
        not_counted=not_counted,
        seeds=sorted({seed for block in filled for seed in block.runs["seed"]}),
    )


def chapter(table: PaperTable, block: Block, found: pd.DataFrame, reasons: Sequence[str] | None) -> list[Part]:
    """Write a block with its cells, and why it is not comparable; None where there is nothing to compare it with."""
    lines = []
    for (column, metric), own in found.groupby(["column", "metric"], sort=False):
        title = table.columns[column].title if column in table.columns else column
        name = f"{title}, {metric}" if "top5" in found["metric"].values else title
        rows = [_row(cell, stars=table.stars) for cell in own.to_dict("records")]
        lines += [(name if place == 0 else "", *row) for place, row in enumerate(rows)]
    columns = ("network" if table.of_networks else "pair", *_HEADS)
    return [
        Heading(text=block.title),
        Notes(lines=_head(block, reasons)),
        Table(title="Cells with runs", columns=columns, rows=lines, names=2),
    ]


def _row(cell: Mapping[str, Any], *, stars: bool) -> tuple[str, ...]:
    return (
        cell["row"],
        cell["paper_text"] or MISSING,
        *(text(cell, best=best, stars=stars) for best in (False, True)),
        *(_number(cell[name], "+.2f") for name in ("difference", "best_difference")),
        _number(cell["num_seeds"], ".0f"),
        *(cell[name] if isinstance(cell[name], str) else MISSING for name in ("epochs", "student_samples")),
        _number(100 * cell["agreement"], ".2f"),
        _number(cell["divergence"], ".3f"),
    )


def _number(value: float, form: str) -> str:
    return MISSING if math.isnan(value) else f"{value:{form}}"


def _head(block: Block, reasons: Sequence[str] | None) -> list[str]:
    comparable = "The paper's budget, as far as configs and command lines tell."
    lines = [f"Not comparable with the paper's numbers: {'; '.join(reasons)}." if reasons else comparable]
    lines = [] if reasons is None else lines
    data = dict(block.budget.data)
    kind = data.pop("_target_", "?")
    settings = [f"{name} {value}" for name, value in data.items() if value not in ("0", "0.0", "false")]
    lines.append(", ".join([f"Data: {block.budget.dataset} ({kind})", *settings]) + ".")
    if float(data.get("validation_fraction", 0)) > 0:
        lines.append("Best epochs are chosen by, and their accuracies are of, training images that are held out.")
    return [*lines, *block.diverged()]


def _listed(others: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in others.items())


def _remarks(table: PaperTable, filled: Sequence[Block]) -> list[str]:
    lines = [
        "Accuracy on the test images in %. What was measured: mean ± standard deviation (n - 1) over the seeds.",
        "Best epoch: of each run, then averaged. Agreement, KL: of student and teacher, on the test images.",
    ]
    if table.stars:
        paper = "; the paper's numbers above its own teacher's" if table.columns else ""
        lines.append(f"*: above the accuracy of the teacher that was measured{paper}.")
    known = {method.partition("_k")[0] for block in filled for method in block.runs["method"]}
    explained = "; ".join(f"{name}: {what}" for name, what in load().methods.items() if name in known)
    lines += [f"{explained}."] * bool(explained)
    bold = [f"{column.title}: {', '.join(column.bold)}" for column in table.columns.values() if column.bold]
    return [*lines, *table.notes, *([f"In bold in the paper: {'; '.join(bold)}."] if bold else [])]
