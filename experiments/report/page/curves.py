"""Learning curves from the CSV logs of runs."""

import csv
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from supermix_pl.experiments.shared.runs.folders import Run

CURVES = {"val/accuracy": ("validation accuracy %", 100.0), "train/loss": ("training loss", 1.0)}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A quantity over the course of training.

    Args:
        name: Of the row.
        points: (share of the training in %, mean over the seeds), in order.
        low: Least of the seeds at each point.
        high: Largest.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def read_log(folder: Path, name: str) -> dict[int, float]:
    """Read a quantity of a run by step; a resumed run has several logs, of which the later count."""
    found: dict[int, float] = {}
    for path in sorted(folder.glob("csv/*/metrics.csv"), key=_version):
        with path.open(newline="", encoding="utf-8") as file:
            for record in csv.DictReader(file):
                try:
                    step, value = int(record["step"] or ""), float(record[name] or "")
                except (KeyError, ValueError):
                    continue
                if math.isfinite(value):
                    found[step] = value
    return dict(sorted(found.items()))


def _version(path: Path) -> tuple[int, str]:
    """Sort version_2 before version_10."""
    name = path.parent.name
    number = name.rpartition("_")[2]
    return (int(number) if number.isdecimal() else -1, name)


def curve(row: str, runs: Sequence[Run], name: str, factor: float) -> Curve | None:
    """Average a quantity over runs of one training, at the steps that all of them have; None without any."""
    logs = [log for run in runs if (log := read_log(run.folder, name))]
    by_step: dict[int, list[float]] = defaultdict(list)
    for log in logs:
        for step, value in log.items():
            by_step[step].append(factor * value)
    shared = {step: values for step, values in by_step.items() if len(values) == len(logs)}
    if len(shared) < 2:
        return None
    last = max(shared)
    return Curve(
        name=row,
        points=tuple((100 * step / last, sum(values) / len(values)) for step, values in sorted(shared.items())),
        low=tuple(min(values) for _, values in sorted(shared.items())),
        high=tuple(max(values) for _, values in sorted(shared.items())),
    )
