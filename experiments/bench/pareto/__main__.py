"""Measure which mixes hold, and at what cost: see conf/bench/pareto.yaml."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from supermix_pl.experiments.bench.pareto import picture, tables
from supermix_pl.experiments.bench.pareto.rows import Row, measure_batches, mixers
from supermix_pl.experiments.bench.program import Result, Settings, check_sets, run
from supermix_pl.experiments.opening import open_subject
from supermix_pl.experiments.shared.mixers import as_call


@dataclass(frozen=True, kw_only=True)
class ParetoSettings(Settings):
    """See conf/bench/pareto.yaml."""

    LEAST = {"first": 0, "views": 1, "rounds": 1}
    CHOICES = {"splits": ("train", "test")}

    splits: list[str]
    first: int
    sets: int
    batch_size: int
    rounds: list[int]
    views: int
    goals: list[Any]
    changes: list[dict[str, Any]]

    def check(self) -> None:
        """Check what hangs together."""
        if not all(isinstance(goal, list) and len(goal) == 2 for goal in self.goals):
            raise ValueError(f"expected bench.goals of [forwards, share], got {self.goals}")


def measure(config: DictConfig, settings: ParetoSettings) -> Result:
    """Run every mixer on every split."""
    check_sets(settings.sets, settings.batch_size, config.mixer.k)
    rounds, rows = sorted(set(settings.rounds)), []
    subjects = [
        open_subject(config, num_images=settings.sets, first=settings.first, split=split) for split in settings.splits
    ]
    for split, each in zip(settings.splits, subjects, strict=True):
        found = mixers(each.supermix, settings.changes, rounds[-1])
        mine = [Row(name=name, split=split, mixer=mixer) for name, mixer in found.items()]
        measure_batches(mine, each, batch_size=settings.batch_size, rounds=rounds, views=settings.views)
        rows += mine
    subject = subjects[0]
    title = f"{subject.title}, k = {subject.supermix.k}"
    return Result(
        name=f"{subject.data}_k{subject.supermix.k}",
        title=f"Mixes that hold, and their cost: {title}",
        remark="All mixers ran in one process on the same sets. Passes do not depend on the machine.",
        tables=tables.tables(rows, rounds, settings.goals, subject.view),
        content={
            "rows": [
                {"mixer": row.name, "split": row.split, "call": as_call(row.mixer)}
                | {"after": [row.numbers(each) for each in rounds]}
                for row in rows
            ],
            "goals": tables.check(rows, settings.goals),
        },
        seeds=[subject.seed],
        device=subject.images.device,
        figure=picture.draw(rows, rounds, settings.goals, f"{title}, {settings.sets} sets a split"),
    )


def main(overrides: Sequence[str] | None = None) -> None:
    """Measure, print, write and draw."""
    run("pareto", ParetoSettings, measure, overrides)


if __name__ == "__main__":
    main()
