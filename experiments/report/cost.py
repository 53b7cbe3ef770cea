"""Table 4: what making the mixes costs, from the JSON that its benchmark writes."""

# pandas' own types do not tell a DataFrame from a Series
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from supermix_pl.experiments.report.paper import MISSING
from supermix_pl.experiments.report.tables import Report
from supermix_pl.experiments.shared.runs.paper import canonical, load
from supermix_pl.experiments.shared.table import Row, Table

_REFERENCE = "newton_sp"
_NAMES = ["dataset", "network", "solver"]
_SETTING = ["file", "k", "cap"]
_MEASURED = ["k", "cap", "solved_fraction", "steps_per_solved", "forwards_per_solved", "backwards_per_solved"]
_MEASURED += ["ms_per_solved"]
_PAPER = ["paper_time", "paper_unit", "paper_iterations", "paper_ratio"]
_HEADS = ("data, network", "solver", "paper: time", "iterations", "x")
_HEADS += ("k", "cap", "solved %", "steps", "forwards", "backwards", "ms", "x")
_NOTES = (
    "Units differ. Paper: time and iterations, as it prints them.",
    "Measured: teacher forwards, input gradients and ms of wall time of all attempted sets, over the solved ones.",
    "solved: share of the attempted sets.",
    "x: time over that of Newton with smooth projection, of the same file, k and cap; both columns can be compared.",
)


def costs(paths: Sequence[Path]) -> Report:
    """Report Table 4.

    Args:
        paths: The benchmark's files, or folders with them.

    Raises:
        ValueError: If a path does not exist, or none has rows.
    """
    paper = load().cost
    records = _compare(paper, _read(paths))
    return Report(
        title=f"Table 4: {paper['title']}", remarks=[*paper["notes"], *_NOTES], body=[_table(records)], records=records
    )


def _read(paths: Sequence[Path]) -> pd.DataFrame:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ValueError(f"expected a JSON file of the benchmark, or a folder with one, got {path}: no such path")
        files += sorted(path.rglob("*.json")) if path.is_dir() else [path]
    rows = [row | {"file": str(file)} for file in files for row in _rows(file)]
    if not rows:
        listed = ", ".join(str(file) for file in files[:10]) or "no JSON files"
        form = '{"rows": [{"dataset", "network", "solver", ...}]}'
        raise ValueError(f"expected JSON with {form} in {', '.join(map(str, paths))}, found none; there are: {listed}")
    found = pd.DataFrame(rows, columns=[*_NAMES, *_MEASURED, "file"])
    return found.assign(**{name: found[name].map(_mean).astype(float) for name in _MEASURED})


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    rows = content.get("rows") if isinstance(content, dict) else None
    return [row for row in rows if isinstance(row, dict) and {*_NAMES} <= set(row)] if isinstance(rows, list) else []


def _compare(paper: Mapping[str, Any], rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each solver: the paper's networks first, then others that were measured."""
    published = pd.DataFrame(
        {"dataset": column["dataset"], "network": column["network"], "solver": solver, "paper_time": time}
        | {"paper_unit": column["unit"], "paper_iterations": iterations}
        | {"paper_ratio": time / column["time"][list(paper["solvers"]).index(_REFERENCE)]}
        for column in paper["columns"]
        for solver, time, iterations in zip(paper["solvers"], column["time"], column["iterations"], strict=True)
    )
    published, rows = _keyed(published), _keyed(rows)
    reference = rows[rows["solver"] == _REFERENCE].drop_duplicates(["key", *_SETTING])
    reference = reference[["key", *_SETTING, "ms_per_solved"]].rename(columns={"ms_per_solved": "reference"})
    rows = rows.merge(reference, on=["key", *_SETTING], how="left")
    rows["ratio"] = rows["ms_per_solved"] / rows["reference"].where(rows["reference"] > 0)
    numbers = rows[["key", "solver", *_MEASURED, "ratio", "file"]]
    others = rows[~rows.set_index(["key", "solver"]).index.isin(published.set_index(["key", "solver"]).index)]
    both = published.merge(numbers, on=["key", "solver"], how="left")
    found = pd.concat([both, others.sort_values("key", kind="stable")], ignore_index=True)
    return found[[*_NAMES, *_PAPER, *_MEASURED, "ratio", "file"]]


def _keyed(rows: pd.DataFrame) -> pd.DataFrame:
    """Add a name of data and network that does not depend on their spelling."""
    data, networks = rows["dataset"].astype(str).map(canonical), rows["network"].astype(str).map(canonical)
    return rows.assign(key=data + " " + networks.str.removeprefix("imagenet"), solver=rows["solver"].astype(str))


def _table(records: pd.DataFrame) -> Table:
    """Lay the paper's rows and the measured ones side by side."""
    sections = []
    for (dataset, network), own in records.groupby(["dataset", "network"], sort=False):
        rows: list[Row] = []
        for record in own.to_dict("records"):
            time = _shown(record["paper_time"], "g")
            rows.append(
                (
                    "" if rows else f"{dataset}, {network}",
                    record["solver"],
                    time if time == MISSING else f"{time} {record['paper_unit']}",
                    _shown(record["paper_iterations"], "g"),
                    _shown(record["paper_ratio"], ".1f"),
                    _shown(record["k"], "g"),
                    _shown(record["cap"], "g"),
                    _shown(100 * record["solved_fraction"], ".1f"),
                    *(_shown(record[name], ".1f") for name in [*_MEASURED[3:], "ratio"]),
                )
            )
        sections.append(tuple(rows))
    return Table(title="Paper / measured", columns=_HEADS, sections=tuple(sections), names=2)


def _mean(value: Any) -> float | None:
    """Return a number, or the mean of several; None for what is neither."""
    values = value if isinstance(value, list) else [value]
    numbers = [each for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def _shown(value: float, digits: str) -> str:
    return MISSING if pd.isna(value) else f"{value:{digits}}"
