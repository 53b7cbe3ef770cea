"""Fill in `page.html.j2`: the runs of a sweep on one page that needs no other file."""

# pandas' own types do not tell a DataFrame from a Series
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false, reportReturnType=false

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from supermix_pl.experiments.report.charts import CURVES, chart, curve, style
from supermix_pl.experiments.report.runs import TEACHER, Block, blocks, in_order, read
from supermix_pl.experiments.shared import provenance
from supermix_pl.experiments.shared.palette import BLUE
from supermix_pl.experiments.shared.runs.budget import as_text, differences
from supermix_pl.experiments.shared.runs.folders import read_evaluation
from supermix_pl.experiments.shared.runs.paper import load
from supermix_pl.experiments.shared.statistics import interval

_PROGRAM = "supermix_pl.experiments.reporting"
_HALF_SHOWN = 1e-9


class Measure(NamedTuple):
    """A column: its head, the number's name, factor and decimals, and which value is best, if any is."""

    title: str
    name: str
    factor: float = 100.0
    digits: int = 2
    best: Callable[[list[float]], float] | None = max


_ACCURACY = Measure("accuracy %, last epoch", "test/accuracy")
_RESULTS = (
    _ACCURACY,
    Measure("accuracy %, best epoch", "val/accuracy_best"),
    Measure("agreement with the teacher %", "test/teacher_agreement"),
    Measure("KL to the teacher, nats", "test/teacher_kl", 1, 3, min),
    Measure("calibration error %", "evaluation/calibration_error", best=min),
    Measure("FGSM accuracy %", "evaluation/fgsm_accuracy"),
    Measure("corrupted accuracy %", "evaluation/corrupted_accuracy"),
)
_COST = (
    Measure("minutes of training", "fit_seconds", 1 / 60, 1, None),
    Measure("ms a step", "ms_per_step", 1, 0, None),
    Measure("student samples", "student_samples", 1, 0, None),
    Measure("sets solved %", "supermix/solved_fraction", 100, 0, None),
    Measure("mixes that hold %", "supermix/holds", 100, 0, None),
    Measure("teacher forwards a mix", "supermix/teacher_forwards_per_mix", 1, 1, None),
)


def page(folders: Sequence[Path], *, title: str, notes: Sequence[str], arguments: Sequence[str]) -> str:
    """Write the page of all runs in some folders; `arguments` are those of the command line.

    Raises:
        ValueError: If there are no finished runs, or evaluations that do not compare.
    """
    runs, problems = read(folders)
    if runs.empty:
        listed = "; ".join(f"{problem.folder} ({problem.reason})" for problem in problems)
        raise ValueError(f"expected finished runs, found none; there are: {listed}")
    runs = _with_evaluations(runs)
    found = [block for table in load().tables for block in blocks(runs, table)]
    left_out = [f"{problem.folder}: {problem.reason}." for problem in problems]
    left_out += [line for block in found for line in block.not_counted]
    methods = {method for block in found for method in block.runs["method"]}
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return templates.get_template("page.html.j2").render(
        title=title,
        mark=BLUE,
        count=len(runs),
        notes=[*notes, *(line for block in found for line in block.diverged())],
        evaluated="evaluation/settings" in runs,
        methods={name: what for name, what in load().methods.items() if name in methods},
        blocks=[_chapter(block, f"block-{number}") for number, block in enumerate(found)],
        left_out=list(dict.fromkeys(left_out)),
        origin=provenance.collect(_PROGRAM, ["html", *arguments], seeds=sorted(set(runs["seed"]))).lines(),
    )


def _with_evaluations(runs: pd.DataFrame) -> pd.DataFrame:
    """Add what `evaluate` measured of the runs, as columns evaluation/..."""
    found = {folder: content for folder in runs["folder"] if (content := read_evaluation(Path(folder)))}
    settings = {json.dumps(content["settings"], sort_keys=True): folder for folder, content in found.items()}
    if len(settings) > 1:
        listed = "; ".join(f"{folder}: {text}" for text, folder in settings.items())
        raise ValueError(
            f"expected evaluations with the same settings, got {listed}: measure them again, with one "
            "python -m supermix_pl.experiments.evaluate for all"
        )
    if not found:
        return runs
    return runs.join(pd.DataFrame.from_dict(found, orient="index").add_prefix("evaluation/"), on="folder")


def _chapter(block: Block, name: str) -> dict[str, Any]:
    rows = _rows(block)
    settings = {row: runs["settings"].iloc[0] for row, runs in rows.items()}
    names = differences(list(settings.values()))
    first = next(iter(settings.values()))
    return {
        "title": block.title,
        "results": _table(rows, _RESULTS),
        "teachers": sorted({f"{100 * accuracy:.2f}" for accuracy in block.runs[TEACHER].dropna()}),
        "cost": _table(rows, _COST),
        "curves": _curves(rows, name),
        "differ": {
            row: [f"{name}={as_text(own[name])}" for name in names if name in own] for row, own in settings.items()
        }
        if names
        else {},
        "shared": [f"{name}={as_text(value)}" for name, value in first.items() if name not in names],
    }


def _rows(block: Block) -> dict[str, pd.DataFrame]:
    """Return the trials in the paper's order of methods, by names that no two of them share."""
    listed = [runs for _, runs in block.trials()]
    order = list(load().methods)
    place = {method: number for number, method in enumerate(order)}
    heads = [runs.iloc[0] for runs in listed]
    several = len({head["column"] for head in heads}) > 1
    names = [f"{head['column']}: {head['row']}" if several else str(head["row"]) for head in heads]
    keys = [(head["column"], place.get(head["method"], len(order)), in_order(head["row"])) for head in heads]
    return {name: runs for _, name, runs in sorted(zip(keys, names, listed, strict=True), key=lambda each: each[0])}


def _table(rows: Mapping[str, pd.DataFrame], measures: Sequence[Measure]) -> dict[str, Any]:
    """Return heads and rows of a table with a column for each measure that is known of any row; empty without any."""
    summaries = {measure: [_summary(runs, measure) for runs in rows.values()] for measure in measures}
    known = {measure: found for measure, found in summaries.items() if any(found)}
    if not known:
        return {}
    columns = [_column(measure, found) for measure, found in known.items()]
    return {
        "heads": [measure.title for measure in known],
        "rows": [
            {"name": name, "seeds": ", ".join(map(str, runs["seed"])), "cells": cells}
            for (name, runs), *cells in zip(rows.items(), *columns, strict=True)
        ],
    }


def _column(measure: Measure, found: Sequence[tuple[float, float] | None]) -> list[dict[str, Any]]:
    """Return the cells of a measure; those of the accuracy with mean and interval as shares of the column's range."""
    known = [each for each in found if each is not None]
    best = measure.best([mean for mean, _ in known]) if measure.best and len(known) > 1 else None
    low = min(mean - half for mean, half in known)
    width = max(mean + half for mean, half in known) - low or 1
    cells = []
    for each in found:
        cell: dict[str, Any] = {"text": "-", "best": False, "bar": None}
        if each is not None:
            mean, half = each
            text = f"{mean:,.{measure.digits}f}".replace(",", " ")
            cell["text"] = text + (f" ± {half:.{measure.digits}f}" if half > _HALF_SHOWN else "")
            cell["best"] = mean == best
            if measure is _ACCURACY:
                cell["bar"] = [round(100 * share / width, 2) for share in (mean - half - low, 2 * half, mean - low)]
        cells.append(cell)
    return cells


def _summary(runs: pd.DataFrame, measure: Measure) -> tuple[float, float] | None:
    """Return mean and interval of a number of runs that differ in their seeds alone; None where one lacks it."""
    if measure.name not in runs:
        return None
    values = measure.factor * pd.to_numeric(runs[measure.name], errors="coerce")
    return None if values.isna().any() else interval(list(values))


def _curves(rows: Mapping[str, pd.DataFrame], name: str) -> dict[str, Any]:
    """Draw the learning curves of the rows whose runs have CSV logs; empty without any."""
    charts, drawn = {}, set()
    for quantity, (title, factor) in CURVES.items():
        curves = [(place, factor * curve(list(runs["folder"]), quantity)) for place, runs in enumerate(rows.values())]
        curves = [(place, points) for place, points in curves if len(points) > 1]
        if curves:
            drawn |= {place for place, _ in curves}
            charts[title] = Markup(chart(curves, title=title, salt=f"{name}-{quantity}"))
    legend = [{"name": row, "style": style(place)} for place, row in enumerate(rows) if place in drawn]
    return {"charts": charts, "legend": legend} if charts else {}
