"""Put the paper's numbers beside what the runs of a block measured."""

# pandas' own types do not tell a DataFrame from a Series
# pyright: reportArgumentType=false, reportReturnType=false

from collections.abc import Mapping
from typing import Any

import pandas as pd

from supermix_pl.experiments.report.runs import COUNTS, FIDELITY, METRICS, Block, in_order
from supermix_pl.experiments.shared.runs.budget import changes
from supermix_pl.experiments.shared.runs.paper import PaperTable, load

MISSING = "-"
TEACHER = "teacher"
_TIE = 1e-4  # points: what float32 may add to equal accuracies
_SAME_SAMPLES = 0.01  # of the paper's
_OTHERS_K = 2  # sources of MixUp and CutMix


def cells(table: PaperTable, block: Block) -> pd.DataFrame:
    """Return the cells of a block that have runs, and its measured teachers, in the paper's order.

    Accuracies are in %, deviations and differences in points. `mean` is of the last epoch, `best_mean` of the best
    one, which is missing unless all runs have it. A teacher has one accuracy, and no runs. What is missing is NaN.
    """
    metrics = ("top1", "top5") if block.budget.dataset == "imagenet" else ("top1",)
    measured = pd.concat([part for metric in metrics for part in (_teachers(block, metric), _measured(block, metric))])
    columns, methods = [*table.columns], [TEACHER, *table.methods, *load().methods]

    def place(cell: Mapping[str, Any]) -> tuple[Any, ...]:
        column, method = cell["column"], cell["method"]
        return _rank(columns, column), column, cell["metric"], _rank(methods, method), method, in_order(cell["row"])

    found = pd.DataFrame(sorted(measured.to_dict("records"), key=place))
    papers = [_reported(table, cell) for cell in found.to_dict("records")]
    for name in ("value", "star", "text"):
        found[f"paper_{name}"] = pd.Series([getattr(each, name, None) for each in papers], dtype=object)
    for prefix in ("", "best_"):
        found[f"{prefix}star"] = found[f"{prefix}mean"] > found["teacher"] + _TIE
        found[f"{prefix}difference"] = found[f"{prefix}mean"] - found["paper_value"].astype(float)
    return found


def not_comparable(table: PaperTable, block: Block) -> list[str]:
    """Return what sets a block's budget apart from the paper's; empty if nothing does, as far as one can tell."""
    datasets = {table.columns[name].dataset for name in block.runs["column"]}
    reasons = block.budget.unlike_paper(list(datasets) if len(datasets) == 1 else [])
    for method, samples in ({} if reasons else table.student_samples).items():
        seen = block.runs.loc[block.runs["method"] == method, "student_samples"]
        if (abs(seen - samples) > _SAME_SAMPLES * samples).any():
            reasons.append(f"{method}: {counts(seen)} student samples, not {samples:.0f}")
    return reasons + _other_mixes(table, block) + _other_settings(table, block)


def _other_mixes(table: PaperTable, block: Block) -> list[str]:
    """Return where there is no D', or it has another size than the paper's, or its mixes other numbers of sources."""
    reasons = []
    paper = table.mixes.get(block.budget.dataset, {})
    for method, runs in block.runs.groupby("method", sort=False):
        on_the_fly = any("mixer._target_" in own and "mixes.kind" not in own for own in runs["settings"])
        if on_the_fly and "size" in paper:
            reasons.append(f"{method}: mixes made in the training, not {paper['size']} before it")
        wanted = {"mixes.size": ("{} mixes", paper.get("size"))}
        wanted["mixer.k"] = ("k = {}", paper.get("k") if "supermix" in str(method) else _OTHERS_K)
        for name, (words, value) in wanted.items():
            seen = {settings[name] for settings in runs["settings"] if name in settings}
            if value is not None and seen - {value}:
                others = " / ".join(words.format(each) for each in sorted(seen))
                reasons.append(f"{method}: {others}, not {value}")
    return reasons


def _other_settings(table: PaperTable, block: Block) -> list[str]:
    """Return what command lines changed in the settings of the cells."""
    reasons = []
    for method, runs in block.runs.groupby("method", sort=False):
        changed = sorted({each for overrides in runs["overrides"] for each in changes(overrides, table.name)})
        reasons += [f"{method}: {', '.join(changed)}"] * bool(changed)
    return reasons


def text(cell: Mapping[str, Any], *, best: bool, stars: bool) -> str:
    """Write mean, star and standard deviation of a cell."""
    mean, star, deviation = (cell[f"{'best_' * best}{name}"] for name in ("mean", "star", "std"))
    spread = "" if pd.isna(deviation) else f" ± {deviation:.2f}"
    return MISSING if pd.isna(mean) else f"{mean:.2f}{'*' * (stars and star)}{spread}"


def counts(values: pd.Series) -> str:
    """Write a count of runs, or all that there are."""
    return " / ".join(f"{value:.0f}" for value in sorted(values.dropna().unique()))


def _rank(order: list[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _reported(table: PaperTable, cell: Mapping[str, Any]) -> Any:
    column = table.columns.get(cell["column"])
    return column and column.numbers.get(cell["metric"], {}).get(cell["method"])


def _teachers(block: Block, metric: str) -> pd.DataFrame:
    columns = block.runs["column"].unique()
    own = [(column, mean) for column in columns for mean in block.teachers(column, metric)]
    return pd.DataFrame(own, columns=["column", "mean"]).assign(method=TEACHER, row=TEACHER, metric=metric)


def _measured(block: Block, metric: str) -> pd.DataFrame:
    """Sum up a metric over the seeds of each trial; missing where a run lacks it."""
    percent = {kind: 100 * block.runs[name] for kind, name in METRICS[metric].items()}
    trials = block.runs.assign(**percent).groupby(["column", "method", "row"], sort=False, as_index=False)
    return trials.agg(
        variant=("label", "first"),
        mean=("last", _mean),
        std=("last", _deviation),
        best_mean=("best", _mean),
        best_std=("best", _deviation),
        teacher=("teacher", _mean),
        num_seeds=("seed", "size"),
        seeds=("seed", lambda seeds: " ".join(map(str, seeds))),
        **{name: (name, counts) for name in COUNTS},
        **{name: (metric, _mean) for name, metric in FIDELITY.items()},
        folders=("folder", ";".join),
    ).assign(metric=metric)


def _mean(values: pd.Series) -> float:
    return values.mean(skipna=False)


def _deviation(values: pd.Series) -> float:
    return values.std(skipna=False)
