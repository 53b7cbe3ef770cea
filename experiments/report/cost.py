"""Table 4: what making the mixes costs, from the JSON that its benchmark writes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from supermix_pl.experiments.report.cells import MISSING
from supermix_pl.experiments.shared.runs.paper import canonical
from supermix_pl.experiments.shared.statistics import Summary
from supermix_pl.experiments.shared.table import Row, Table

_REFERENCE = "newton_sp"
_MEASURED = {
    "k": "k",
    "cap": "cap",
    "solved_fraction": "solved %",
    "steps_per_solved": "steps",
    "forwards_per_solved": "forwards",
    "backwards_per_solved": "backwards",
    "ms_per_solved": "ms",
}
NOTES = (
    "Units differ. Paper: time and iterations, as it prints them.",
    "Measured: teacher forwards, input gradients and ms of wall time of all attempted sets, over the solved ones.",
    "solved: share of the attempted sets.",
    "x: time over that of Newton with smooth projection, of the same file, k and cap; both columns can be compared.",
)


def find_rows(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the rows of the benchmark's files; of folders, of all of them in it.

    Raises:
        ValueError: If a path does not exist, or none has rows.
    """
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
    return rows


def grid(paper: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay the paper's rows and the measured ones side by side."""
    sections: dict[str, list[Row]] = {}
    for record in records(paper, rows):
        title = f"{record['dataset']}, {record['network']}"
        unit = record["paper_unit"] or ""
        cells = [
            "" if title in sections else title,
            record["solver"],
            f"{record['paper_time']:g} {unit}" if record["paper_time"] is not None else MISSING,
            _shown(record["paper_iterations"], "g"),
            _shown(record["paper_ratio"], ".1f"),
            _shown(record["k"], "g"),
            _shown(record["cap"], "g"),
            _shown(record["solved_fraction"], ".1f", 100),
            *(_shown(record[name], ".1f") for name in list(_MEASURED)[3:]),
            _shown(record["ratio"], ".1f"),
        ]
        sections.setdefault(title, []).append(tuple(cells))
    columns = ("data, network", "solver", "paper: time", "iterations", "x", *_MEASURED.values(), "x")
    return Table(
        title="Paper / measured", columns=columns, sections=tuple(tuple(cells) for cells in sections.values()), names=2
    )


def records(paper: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a record for each solver: the paper's networks first, then others that were measured."""
    left = list(rows)
    for column in paper["columns"]:
        for number, solver in enumerate(paper["solvers"]):
            key = _key({**column, "solver": solver})
            numbers = {
                "paper_time": column["time"][number],
                "paper_unit": column["unit"],
                "paper_iterations": column["iterations"][number],
                "paper_ratio": column["time"][number] / column["time"][list(paper["solvers"]).index(_REFERENCE)],
            }
            found = [row for row in left if _key(row) == key]
            left = [row for row in left if _key(row) != key]
            names = {"dataset": column["dataset"], "network": column["network"], "solver": solver}
            yield from (names | numbers | _measured(row, rows) for row in found or [{}])
    nothing = dict.fromkeys(("paper_time", "paper_unit", "paper_iterations", "paper_ratio"))
    for row in sorted(left, key=lambda row: _key(row)[:2]):
        yield {name: row[name] for name in ("dataset", "network", "solver")} | nothing | _measured(row, rows)


def _measured(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    reference = {**row, "solver": _REFERENCE}
    against = [other for other in rows if row and _key(other) == _key(reference) and _setting(other) == _setting(row)]
    mine, theirs = _mean(row.get("ms_per_solved")), _mean(against[0].get("ms_per_solved")) if against else None
    ratio = mine / theirs if mine is not None and theirs else None
    numbers = {name: _mean(row.get(name)) for name in _MEASURED}
    return numbers | {"ratio": ratio, "file": row.get("file")}


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    rows = content.get("rows") if isinstance(content, dict) else None
    wanted = {"dataset", "network", "solver"}
    return [row for row in rows or [] if isinstance(row, dict) and wanted <= set(row)] if isinstance(rows, list) else []


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    dataset, network, solver = (str(row[name]) for name in ("dataset", "network", "solver"))
    return canonical(dataset), canonical(network).removeprefix("imagenet"), solver


def _setting(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row.get("file"), row.get("k"), row.get("cap")


def _mean(value: Any) -> float | None:
    """Return a number, or the mean of several; None for what is neither."""
    values = value if isinstance(value, list) else [value]
    numbers = [float(each) for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
    summary = Summary.of(numbers)
    return summary.mean if summary and len(numbers) == len(values) else None


def _shown(value: float | None, digits: str, factor: float = 1) -> str:
    return MISSING if value is None else f"{factor * value:{digits}}"
