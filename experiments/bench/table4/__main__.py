"""Measure Table 4: see conf/bench/table4.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench.cost import Batch
from supermix_pl.experiments.bench.program import Result, Settings, check_sets, run, tracked
from supermix_pl.experiments.bench.table4 import tables
from supermix_pl.experiments.bench.table4.curve import Run, run_batch
from supermix_pl.experiments.opening import open_subject
from supermix_pl.experiments.shared.runs.identity import dataset
from supermix_pl.experiments.shared.runs.paper import load

_REMARK = (
    "All solvers ran in one process, in turn, on the same sets, with the same loop: one forward that tests and, for "
    "the sets that are left, one input gradient a step. Steps and passes do not depend on the machine, times do."
)


@dataclass(frozen=True, kw_only=True)
class Table4Settings(Settings):
    """See conf/bench/table4.yaml."""

    LEAST = {"caps": 1}

    sets: int
    batch_size: int
    caps: list[int]
    levels: list[float]
    solvers: dict[str, Any]

    def check(self) -> None:
        """Check what hangs together."""
        if not all(0 < level <= 1 for level in self.levels):
            raise ValueError(f"expected bench.levels in (0, 1], got {self.levels}")
        if tables.REFERENCE not in self.solvers:
            raise ValueError(f"expected {tables.REFERENCE}, the reference, in bench.solvers, got {list(self.solvers)}")


def measure(config: DictConfig, settings: Table4Settings) -> Result:
    """Run every solver on the same sets."""
    check_sets(settings.sets, settings.batch_size, config.mixer.k)
    subject = open_subject(config, num_images=settings.sets)
    caps, batches = sorted(set(settings.caps)), subject.batches(settings.batch_size)
    paper = replace(subject.supermix, max_steps=caps[-1])
    mixers = {name: replace(paper, **_built(changes)) for name, changes in settings.solvers.items()}
    runs = compare(mixers, subject.teacher, batches, seed=subject.seed)
    right = accuracy(subject.teacher, batches)
    facts: dict[str, Any] = {"dataset": dataset({"data": OmegaConf.to_container(config.data)})}
    facts |= {"network": subject.network, "teacher_accuracy": right}
    costs = [facts | row for row in tables.rows(mixers, runs, caps)]
    levels = [facts | row for row in tables.level_rows(mixers, runs, settings.levels)]
    return Result(
        name=f"{subject.data}_{subject.network}_k{paper.k}",
        title=f"Table 4, cost of the solvers: {subject.title}, k = {paper.k}",
        remark=f"{settings.sets} sets; the teacher's top-1 accuracy on their images is {100 * right:.1f} %. {_REMARK}",
        tables=[*tables.tables(costs, levels), *tables.published(load(), subject.network)],
        content={"rows": costs, "levels": levels, "paper_ratios": tables.PAPER_RATIOS},
        seeds=[subject.seed],
        device=subject.images.device,
    )


def compare(
    mixers: Mapping[str, SuperMix], teacher: FrozenTeacher, batches: Sequence[Batch], *, seed: int
) -> dict[str, list[Run]]:
    """Run every solver on every batch, in turn, each first as often as the others."""
    names, runs = list(mixers), {name: [] for name in mixers}
    run_batch(replace(mixers[names[0]], max_steps=1), teacher, *batches[0], seed=(seed,))  # sets the libraries up
    for place, batch in enumerate(batches):
        turn = place % len(names)
        for name in tracked([*names[turn:], *names[:turn]], f"batch {place + 1} of {len(batches)}"):
            runs[name].append(run_batch(mixers[name], teacher, *batch, seed=(seed, place)))
    return runs


def _built(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: instantiate(value) if isinstance(value, dict) else value for name, value in changes.items()}


def accuracy(teacher: FrozenTeacher, batches: Sequence[Batch]) -> float:
    """Return a teacher's top-1 accuracy."""
    with torch.no_grad():
        right = [teacher(images).argmax(dim=1) == labels for images, labels in batches]
    return float(torch.cat(right).double().mean())


main = partial(run, "table4", Table4Settings, measure)

if __name__ == "__main__":
    main()
