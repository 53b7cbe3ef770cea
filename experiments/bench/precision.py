"""Measure what makes the teacher's passes faster: see conf/bench/precision.yaml."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from supermix_pl import FrozenTeacher, MixedBatch
from supermix_pl.experiments.bench.cost import NOTE, Cost, cost_of
from supermix_pl.experiments.bench.passes import timed
from supermix_pl.experiments.bench.program import Result, Settings, check_sets, run, tracked
from supermix_pl.experiments.opening import open_subject
from supermix_pl.experiments.shared.measures import accepted
from supermix_pl.experiments.shared.statistics import mean_cell, median_cell
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.experiments.shared.table import Notes, Table
from supermix_pl.mixing.presenting import holds

_NOTES = (
    (
        "For every seed and batch the rows take turns, in an order that rotates, after a warm-up of each. Speed-up: "
        "the first row's time over the row's, seed by seed; median (least - most). Others: mean ± standard deviation."
    ),
    (
        "Solved: the row's teacher finds the classes of the set in the very pixels of the mix. Again: how many of "
        "these pass when the first row's teacher is shown the mixes. Equal: share that ended like the first row's."
    ),
)
_COLUMNS = ("row", "ms / solved set", "speed-up", "solved %", "again %", "equal %")


@dataclass(frozen=True, kw_only=True)
class PrecisionSettings(Settings):
    """See conf/bench/precision.yaml."""

    LEAST = {"seeds": 0}

    sets: int
    batch_size: int
    seeds: list[int]
    rows: dict[str, Any]

    def check(self) -> None:
        """Check what hangs together."""
        if not self.rows:
            raise ValueError("expected bench.rows with changes of the config by name, got none")


@dataclass(kw_only=True)
class Trial:
    """A row with one seed.

    Attributes:
        cost: Of its mixes.
        again: How many of the solved ones the judge finds solved.
        equal: Sets that ended as with the first row.
    """

    cost: Cost = field(default_factory=Cost)
    again: int = 0
    equal: int = 0

    def count(self, mix: MixedBatch, seconds: float, judge: FrozenTeacher, first: MixedBatch) -> None:
        """Take in a batch."""
        solved = accepted(mix)
        self.cost += cost_of(mix, seconds)
        self.again += int((_passes_again(mix, judge) & solved).sum())
        self.equal += int((solved == accepted(first)).sum())


@torch.no_grad()
def _passes_again(mix: MixedBatch, judge: FrozenTeacher) -> Tensor:
    return holds(mix, judge(mix.images))


def measure(config: DictConfig, settings: PrecisionSettings) -> Result:
    """Let the rows solve the same batches in turns."""
    check_sets(settings.sets, settings.batch_size, config.mixer.k)
    subjects: dict[str, Subject] = {}
    for name, changes in tracked(settings.rows.items(), "teachers"):
        changed = OmegaConf.merge(config, changes)
        assert isinstance(changed, DictConfig)
        subjects[name] = open_subject(changed, num_images=settings.sets)
    names, (first, *_) = list(subjects), subjects.values()
    for subject in subjects.values():
        _mix(subject, first.images[: settings.batch_size], (settings.seeds[0],))
    trials: dict[str, list[Trial]] = {name: [] for name in names}
    for seed in settings.seeds:
        for name in names:
            trials[name].append(Trial())
        for number, (images, _) in enumerate(tracked(first.batches(settings.batch_size), f"seed {seed}")):
            turn = (seed + number) % len(names)
            made = {name: _mix(subjects[name], images, (seed, number)) for name in (*names[turn:], *names[:turn])}
            for name, (mix, seconds) in made.items():
                trials[name][-1].count(mix, seconds, first.teacher, made[names[0]][0])
    return Result(
        name=f"{first.data}_{first.network}_k{first.supermix.k}",
        title=f"Precision and memory format of the teacher's passes: {first.title}",
        remark="All rows took turns in one process.",
        tables=[table(trials), Notes(lines=(*_NOTES, NOTE))],
        content={
            "rows": [
                {"row": name, "changes": settings.rows[name], "seeds": [asdict(each) for each in mine]}
                | numbers(mine, trials[names[0]])
                for name, mine in trials.items()
            ]
        },
        seeds=settings.seeds,
        device=first.images.device,
    )


def _mix(subject: Subject, images: Tensor, seed: tuple[int, ...]) -> tuple[MixedBatch, float]:
    return timed(lambda: subject.supermix(subject.teacher, images, seed=seed), images.device)


def numbers(trials: Sequence[Trial], first: Sequence[Trial]) -> dict[str, list[float | None]]:
    """Return what the table shows, a value a seed."""
    return {
        "ms_per_solved": [trial.cost.numbers()["ms_per_solved"] for trial in trials],
        "speed_up": [base.cost.seconds / trial.cost.seconds for trial, base in zip(trials, first, strict=True)],
        "solved_fraction": [trial.cost.solved / trial.cost.sets for trial in trials],
        "again_fraction": [trial.again / trial.cost.solved if trial.cost.solved else None for trial in trials],
        "equal_fraction": [trial.equal / trial.cost.sets for trial in trials],
    }


def table(trials: dict[str, list[Trial]]) -> Table:
    """Lay the rows out."""
    rows = []
    for name, mine in trials.items():
        found = numbers(mine, next(iter(trials.values())))
        shares = (mean_cell(found[f"{each}_fraction"], 1, 100) for each in ("solved", "again", "equal"))
        rows.append((name, median_cell(found["ms_per_solved"], 1), median_cell(found["speed_up"], 2), *shares))
    return Table(title="The teacher's passes", columns=_COLUMNS, sections=(tuple(rows),))


def main(overrides: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    run("precision", PrecisionSettings, measure, overrides)


if __name__ == "__main__":
    main()
