"""What the page shows of every row: which number, where it stands, how it is written."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermix_pl.experiments.shared.runs.evaluations import read_evaluation
from supermix_pl.experiments.shared.runs.folders import Run
from supermix_pl.experiments.shared.statistics import Summary


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A column.

    Args:
        title: Its head; `{epsilon}` stands for the attack's.
        name: Of the number, in metrics.json or evaluation.json.
        evaluated: Whether it is in evaluation.json.
        factor: What it is multiplied with.
        digits: Behind the point.
        best: Whether the "high" or the "low" is better; empty where neither is.
    """

    title: str
    name: str
    evaluated: bool = False
    factor: float = 100.0
    digits: int = 2
    best: str = "high"


ACCURACY = Measure(title="accuracy %, last epoch", name="test/accuracy")
RESULTS = (
    ACCURACY,
    Measure(title="accuracy %, best epoch", name="val/accuracy_best"),
    Measure(title="calibration error %", name="calibration_error", evaluated=True, best="low"),
    Measure(title="FGSM {epsilon} accuracy %", name="fgsm_accuracy", evaluated=True),
    Measure(title="corrupted accuracy %", name="corrupted_accuracy", evaluated=True),
)
COST = (
    Measure(title="minutes of training", name="fit_seconds", factor=1 / 60, digits=1, best=""),
    Measure(title="ms a step", name="ms_per_step", factor=1, digits=0, best=""),
    Measure(title="student samples", name="student_samples", factor=1, digits=0, best=""),
    Measure(title="sets solved %", name="supermix/solved_fraction", digits=0, best=""),
    Measure(title="teacher forwards a mix", name="supermix/teacher_forwards_per_mix", factor=1, digits=1, best=""),
)
CORRUPTED = "corrupted/"


def evaluations(runs: Sequence[Run]) -> dict[Path, dict[str, Any]]:
    """Read the evaluations of runs, by folder.

    Raises:
        ValueError: If they were not all made with the same settings, so that they do not compare.
    """
    found = {run.folder: content for run in runs if (content := read_evaluation(run.folder)) is not None}
    settings = {json.dumps(content["settings"], sort_keys=True): folder for folder, content in found.items()}
    if len(settings) > 1:
        listed = "; ".join(f"{folder}: {text}" for text, folder in settings.items())
        raise ValueError(
            f"expected evaluations with the same settings, got {listed}: measure them again, with one "
            "python -m supermix_pl.experiments.evaluate for all"
        )
    return found


def value(run: Run, measure: Measure, evaluated: dict[Path, dict[str, Any]]) -> float | None:
    """Return a number of a run; None where it was not measured."""
    found = evaluated.get(run.folder, {}).get(measure.name) if measure.evaluated else run.number(measure.name)
    return measure.factor * found if isinstance(found, int | float) else None


def summary(runs: Sequence[Run], measure: Measure, evaluated: dict[Path, dict[str, Any]]) -> Summary | None:
    """Sum up a number of runs that differ in their seeds alone; None where one of them lacks it."""
    values = [value(run, measure, evaluated) for run in runs]
    return None if None in values else Summary.of(values)
