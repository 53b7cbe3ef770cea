"""Put the paper's numbers beside what the runs of a block measured."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from supermix_pl.experiments.report.runs import COUNTS, METRICS, Block
from supermix_pl.experiments.shared.runs.paper import PaperTable, load

MISSING = "-"
TEACHER = "teacher"
_TIE = 1e-4  # points: what float32 may add to equal accuracies
_SAME_SAMPLES = 0.01  # of the paper's


def cells(table: PaperTable, block: Block) -> pd.DataFrame:
    """Return the cells of a block, column by column and row by row: the table's, and others that have runs.

    Accuracies are in %, deviations and differences in points. `mean` is of the last epoch, `best_mean` of the best one,
    which is missing unless all runs have it. A teacher has one accuracy, and no runs. What is missing is NaN.
    """
    rows = []
    for column, metric in _columns(table, block):
        paper = table.columns[column].numbers[metric] if column in table.columns else {}
        for method in _methods(table, block):
            reported = paper.get(method)
            cell = {"column": column, "metric": metric, "method": method}
            cell |= {"paper": reported and reported.value, "paper_star": reported and reported.star}
            cell |= {"paper_text": reported.text if reported else MISSING}
            rows += [cell | row for row in _rows(block, column, metric, method)]
    measured = pd.concat([_measured(block, metric) for metric in METRICS])
    found = pd.DataFrame(rows).merge(measured, on=["column", "metric", "method", "row"], how="left")
    accuracy = found.pop("accuracy").astype(float)
    for prefix in ("", "best_"):
        mean = found[f"{prefix}mean"] = found[f"{prefix}mean"].fillna(accuracy)
        found[f"{prefix}star"] = (mean > found["teacher"] + _TIE).astype(object).where(mean.notna())
        found[f"{prefix}difference"] = mean - found["paper"].astype(float)
    return found.assign(num_seeds=found["num_seeds"].fillna(0).astype(int))


def not_comparable(table: PaperTable, block: Block) -> list[str]:
    """Return what sets a block's budget apart from the paper's; empty if nothing does, as far as configs tell."""
    reasons = block.budget.unlike_paper(sorted({column.dataset for column in table.columns.values()}))
    for method, samples in ({} if reasons else table.student_samples).items():
        seen = block.runs.loc[block.runs["method"] == method, "student_samples"]
        if (abs(seen - samples) > _SAME_SAMPLES * samples).any():
            reasons.append(f"{method}: {counts(seen)} student samples, not {spaced(samples)}")
    return reasons + _other_mixes(table, block)


def _other_mixes(table: PaperTable, block: Block) -> list[str]:
    """Return where D' has another size than the paper's, or its mixes other numbers of sources."""
    reasons = []
    paper = table.mixes.get(block.budget.dataset, {})
    for method, runs in block.runs.groupby("method", sort=False):
        wanted = {"mixes.size": ("{} mixes", paper.get("size"))}
        wanted["mixer.k"] = ("k = {}", paper.get("k") if "supermix" in str(method) else None)
        for name, (words, value) in wanted.items():
            seen = {settings[name] for settings in runs["settings"] if name in settings}
            if value is not None and seen - {value}:
                others = " / ".join(words.format(spaced(each)) for each in sorted(seen))
                reasons.append(f"{method}: {others}, not {spaced(value)}")
    return reasons


def text(cell: Mapping[str, Any], *, best: bool, stars: bool) -> str:
    """Write mean, star and standard deviation of a cell."""
    mean, star, deviation = (cell[f"{'best_' * best}{name}"] for name in ("mean", "star", "std"))
    if pd.isna(mean):
        return MISSING
    spread = "" if pd.isna(deviation) else f" ± {deviation:.2f}"
    return f"{mean:.2f}{'*' * (stars and star)}{spread}"


def counts(values: pd.Series) -> str:
    """Write a count of runs, or all that there are."""
    return " / ".join(map(spaced, sorted(values.dropna().unique())))


def spaced(value: float) -> str:
    """Write a large number.

    >>> spaced(25000)
    '25 000'
    """
    return f"{value:,.0f}".replace(",", " ")


def _columns(table: PaperTable, block: Block) -> list[tuple[str, str]]:
    """Return columns and metrics: the table's with the block's data or with runs; without a table, those with runs."""
    ran = sorted(block.runs["column"].unique())
    if not table.columns:
        metrics = ("top1", "top5") if block.budget.dataset == "imagenet" else ("top1",)
        return [(column, metric) for metric in metrics for column in ran]
    return [
        (name, metric)
        for name, column in table.columns.items()
        if name in ran or column.dataset == block.budget.dataset
        for metric in column.numbers
    ]


def _methods(table: PaperTable, block: Block) -> list[str]:
    order = list(table.methods or load().methods)
    measured = set(block.runs["method"])
    if any(block.teachers(column, metric) for column, metric in _columns(table, block)):
        measured.add(TEACHER)
    others = sorted(measured - set(order), key=lambda method: (method != TEACHER, method))
    known = [method for method in order if table.methods or method in measured]
    return [*others, *known] if TEACHER in others else [*known, *others]


def _rows(block: Block, column: str, metric: str, method: str) -> list[dict[str, Any]]:
    """Return the rows that a method has; a teacher's with its accuracy."""
    accuracies = block.teachers(column, metric) if method == TEACHER else []
    if not accuracies:
        return [{"row": row, "accuracy": None} for row in block.rows(method)]
    names = [method if len(accuracies) == 1 else f"{method} ({accuracy:.2f})" for accuracy in accuracies]
    return [{"row": row, "accuracy": accuracy} for row, accuracy in zip(names, accuracies, strict=True)]


def _measured(block: Block, metric: str) -> pd.DataFrame:
    """Sum up a metric over the seeds of each trial; missing where a run lacks it."""
    percent = {kind: 100 * block.runs[name] for kind, name in METRICS[metric].items()}
    found = (
        block.runs.assign(**percent)
        .groupby(["column", "method", "row"], sort=False, as_index=False)
        .agg(
            variant=("label", "first"),
            mean=("last", _mean),
            std=("last", _deviation),
            best_mean=("best", _mean),
            best_std=("best", _deviation),
            teacher=("teacher", _mean),
            num_seeds=("seed", "size"),
            seeds=("seed", lambda seeds: " ".join(map(str, seeds))),
            **{name: (name, counts) for name in COUNTS},
            folders=("folder", ";".join),
        )
    )
    lacking = found["mean"].isna()
    found.loc[lacking, ["best_mean", "best_std", "teacher"]] = float("nan")
    return found.assign(metric=metric)


def _mean(values: pd.Series) -> float:
    return values.mean(skipna=False)


def _deviation(values: pd.Series) -> float:
    return values.std(skipna=False)  # pyright: ignore[reportReturnType]
