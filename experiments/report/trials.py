"""Runs that repeat one another up to their seed, and what they measured."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from supermix_pl.experiments.shared.runs.budget import ACROSS_COLUMNS, differences, label, shown, training
from supermix_pl.experiments.shared.runs.folders import Run, numbers
from supermix_pl.experiments.shared.statistics import Summary

_SAME_TEACHER = 1e-3  # of its accuracy: what another device may change
_LAST = {"top1": "test/accuracy", "top5": "test/accuracy_top5"}
_BEST = {"top1": "val/accuracy_best", "top5": "val/accuracy_top5_best"}
TEACHERS = {"top1": "teacher/accuracy", "top5": "teacher/accuracy_top5"}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Accuracies in %.

    Args:
        last: After the last epoch, over the runs.
        best: At the best epoch; None unless all runs have it.
        teacher: The teacher's; None without.
    """

    last: Summary
    best: Summary | None
    teacher: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Trials:
    """Runs of a cell that differ in nothing but their seed.

    Args:
        column: Network or pair.
        method: Row.
        runs: At least one, by seed.
        settings: What decides on their training.
        label: What sets them apart from other trials of the method; empty if there are no others.
    """

    column: str
    method: str
    runs: tuple[Run, ...]
    settings: Mapping[str, Any]
    label: str = ""

    @property
    def row(self) -> str:
        """Name of the row."""
        return f"{self.method} ({self.label})" if self.label else self.method

    def measured(self, metric: str) -> Measured | None:
        """Sum up a metric; None where a run lacks it."""
        last, best, teacher = (self._percent(names[metric]) for names in (_LAST, _BEST, TEACHERS))
        return last and Measured(last=last, best=best, teacher=teacher.mean if teacher else None)

    def _percent(self, name: str) -> Summary | None:
        values = [run.number(name) for run in self.runs]
        return None if None in values else Summary.of([100 * value for value in values if value is not None])


def group(column: str, method: str, runs: Sequence[Run], duplicates: list[tuple[Run, Run]]) -> list[Trials]:
    """Group the runs of a cell by their settings, and count every seed once: the newest run's."""
    known = same_teachers(numbers(runs, TEACHERS["top1"]))
    groups: dict[str, dict[int, list[Run]]] = defaultdict(lambda: defaultdict(list))
    settings: dict[str, dict[str, Any]] = {}
    for run in sorted(runs, key=lambda run: (run.written, str(run.folder))):
        decisive = training(run.config)
        accuracy = run.number(TEACHERS["top1"])
        if accuracy is not None:
            decisive[TEACHERS["top1"]] = f"{100 * known[accuracy]:.2f}"
        settings[shown(decisive)] = decisive
        groups[shown(decisive)][run.seed].append(run)
    duplicates += [(same[-1], older) for seeds in groups.values() for same in seeds.values() for older in same[:-1]]
    return [
        Trials(
            column=column, method=method, settings=settings[key], runs=tuple(seeds[seed][-1] for seed in sorted(seeds))
        )
        for key, seeds in groups.items()
    ]


def same_teachers(accuracies: Iterable[float]) -> dict[float, float]:
    """Map every accuracy to that of the teacher it belongs to: the first of those with no gap between them."""
    known: dict[float, float] = {}
    before = first = float("-inf")
    for accuracy in sorted(accuracies):
        first = first if accuracy - before <= _SAME_TEACHER else accuracy
        known[accuracy] = first
        before = accuracy
    return known


def labelled(trials: list[Trials]) -> list[Trials]:
    """Label trials with what sets them apart within their cell, and of their length also within their method."""
    found = []
    for each in trials:
        method = [other.settings for other in trials if other.method == each.method]
        cell = [o.settings for o in trials if (o.method, o.column) == (each.method, each.column)]
        names = differences(cell)
        names += [name for name in differences(method) if name in ACROSS_COLUMNS]
        found.append(replace(each, label=label(each.settings, list(dict.fromkeys(names)))))
    return found
