"""The paper's Table 4, what the update rules cost: see conf/bench/table4.yaml."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.experiments.bench.cost import Batch, cost_of, numbers, total
from supermix_pl.experiments.bench.passes import pass_ends
from supermix_pl.experiments.bench.program import Result, Settings, check_sets, run, tracked
from supermix_pl.experiments.opening import open_subject
from supermix_pl.experiments.shared.mixers import as_call
from supermix_pl.experiments.shared.render import Notes, Part, Table
from supermix_pl.experiments.shared.runs.paper import Paper, canonical, load

REFERENCE = "newton_sp"
PAPER_RATIOS = {"sgd": "67-96", "newton": "19-33", REFERENCE: "1"}
"""Execution times over that of Newton with smooth projection in Table 4, of four networks."""

_REMARK = (
    "All solvers ran in one process, in turn, on the same sets, with the same loop: one forward that tests and, for "
    "the sets that are left, one input gradient a step. Steps and passes do not depend on the machine, times do."
)
_COSTS = {  # column: key, digits, factor
    "limit": ("cap", 0, 1),
    "solved %": ("solved_fraction", 1, 100),
    "steps / set": ("steps_per_attempted", 1, 1),
    "steps / solved set": ("steps_per_solved", 1, 1),
    "forwards / solved set": ("forwards_per_solved", 1, 1),
    "backwards / solved set": ("backwards_per_solved", 1, 1),
    "ms / solved set": ("ms_per_solved", 0, 1),
    "ms / step": ("ms_per_step", 1, 1),
    "m(1-m)": ("mask_softness", 3, 1),
    "roughness": ("mask_roughness", 4, 1),
}
_RATIOS = {"cap": ("limit", 0), "steps_per_solved": ("steps / solved set", 1), "ms_per_solved": ("ms / solved set", 0)}
_NOTES = (
    "A solved set: the sum over all sets, the unsolved with all their steps, over the number of solved ones.",
    "m(1-m), roughness (total variation): means over the solved sets' masks; solvers do not end at the same masks.",
)
_LEVEL_NOTES = (
    "The limit is for each solver the lowest under which that share of the same sets is solved; x: over newton_sp's.",
    (
        "Table 4 prints times of 67 to 96 x for SGD and 19 to 33 x for Newton without smooth projection, and does not "
        "say at which share. 0.2 iterations are possible if they are rounds of a batch over its 128 images; then its "
        "SGD takes 2500 to 4400 rounds, Newton 470 to 1900 without smooth projection and 26 to 64 with it. The "
        "authors' code ends a batch when 30 % of it are solved."
    ),
)
Run = tuple[MixedBatch, Sequence[float]]
"""The mixes of a batch, and the seconds until the forward that tested the masks of 0, 1, 2, ... steps had ended."""
Runs = Mapping[str, Sequence[Run]]


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
        if not all(0 < level <= 1 for level in self.levels):
            raise ValueError(f"expected bench.levels in (0, 1], got {self.levels}")
        if REFERENCE not in self.solvers:
            raise ValueError(f"expected {REFERENCE}, the reference, in bench.solvers, got {list(self.solvers)}")


def measure(config: DictConfig, settings: Table4Settings) -> Result:
    """Run every solver on the same sets, under the largest limit on steps, and tell what lower ones would have cost."""
    check_sets(settings.sets, settings.batch_size, config.mixer.k)
    subject = open_subject(config, num_images=settings.sets)
    caps, batches = sorted(set(settings.caps)), subject.batches(settings.batch_size)
    paper = replace(subject.supermix, max_steps=caps[-1])
    mixers = {name: replace(paper, **changes) for name, changes in settings.solvers.items()}
    runs = compare(mixers, subject.teacher, batches, seed=subject.seed)
    facts: dict[str, Any] = {"dataset": subject.data, "k": paper.k, "network": subject.network}
    solvers = {name: facts | {"solver": name, "mixer": as_call(mixer)} for name, mixer in mixers.items()}
    costs = [about | _at(runs[name], cap) for name, about in solvers.items() for cap in caps]
    levels = [solvers[row["solver"]] | row for row in level_rows(runs, settings.levels)]
    return Result(
        name=f"{subject.data}_{subject.network}_k{paper.k}",
        title=f"Table 4, cost of the solvers: {subject.title}, k = {paper.k}",
        remark=f"{settings.sets} sets. {_REMARK}",
        tables=[*tables(costs, levels), *published(load(), subject.network)],
        content={"rows": costs, "levels": levels, "paper_ratios": PAPER_RATIOS},
        seeds=[subject.seed],
        device=subject.images.device,
    )


def compare(mixers: Mapping[str, SuperMix], teacher: FrozenTeacher, batches: Sequence[Batch], *, seed: int) -> Runs:
    """Run every solver on every batch, in turn, each first as often as the others."""
    names, runs = list(mixers), {name: [] for name in mixers}
    run_batch(replace(mixers[names[0]], max_steps=1), teacher, *batches[0], seed=(seed,))  # sets the libraries up
    for place, batch in enumerate(batches):
        turn = place % len(names)
        for name in tracked([*names[turn:], *names[:turn]], f"batch {place + 1} of {len(batches)}"):
            runs[name].append(run_batch(mixers[name], teacher, *batch, seed=(seed, place)))
    return runs


def run_batch(
    mixer: SuperMix, teacher: FrozenTeacher, images: torch.Tensor, labels: torch.Tensor, *, seed: tuple[int, ...]
) -> Run:
    """Mix a batch, and note when its rounds ended."""
    with pass_ends(teacher, images) as ends:
        start = time.perf_counter()
        mix = mixer(teacher, images, labels, seed=seed)
    return mix, [end - start for end in ends[-1 - int(mix.num_steps.max()) :]]


def cap_for(runs: Sequence[Run], share: float) -> int | None:
    """Return the fewest steps after which a share of the sets is solved; None if they never are."""
    steps = torch.cat([mix.num_steps[mix.solved] for mix, _ in runs]).sort().values
    needed = math.ceil(share * sum(len(mix) for mix, _ in runs) - 1e-9)
    return int(steps[needed - 1]) if 0 < needed <= len(steps) else None


def _at(runs: Sequence[Run], cap: int) -> dict[str, Any]:
    """Return what the runs would have cost under a limit on steps."""
    costs = [cost_of(mix, seconds[min(cap, len(seconds) - 1)], cap=cap) for mix, seconds in runs]
    return {"cap": cap, **numbers(total(costs))}


def level_rows(runs: Runs, levels: Sequence[float]) -> list[dict[str, Any]]:
    """Return every solver's numbers where a share of the sets is solved, and their ratios to the reference's."""
    listed = []
    for level in levels:
        caps = {name: cap_for(mine, level) for name, mine in runs.items()}
        found = {name: {} if cap is None else _at(runs[name], cap) for name, cap in caps.items()}
        theirs = found[REFERENCE]
        for name, mine in found.items():
            ratios = {f"{key}_ratio": mine[key] / theirs[key] if mine and theirs.get(key) else None for key in _RATIOS}
            listed.append({"solver": name, "level": level, "reached": bool(mine)} | mine | ratios)
    return listed


def tables(costs: Sequence[dict[str, Any]], levels: Sequence[dict[str, Any]]) -> list[Part]:
    """Lay out both kinds of rows."""
    cells = tuple((row["solver"], *(_number(row[key], *form) for key, *form in _COSTS.values())) for row in costs)
    settings = dict.fromkeys(f"{row['solver']}: {row['mixer']}" for row in costs)
    found: list[Part] = [
        Table(title="Cost under a limit on steps", columns=("solver", *_COSTS), rows=cells),
        Notes(lines=(*_NOTES, f"{'; '.join(settings)}.")),
    ]
    reached = {row["level"] for row in levels if row["reached"]}
    lines = []
    for row in (each for each in levels if each["level"] in reached):
        pairs = [
            (_number(row.get(key), digits), _number(row[f"{key}_ratio"], 1)) for key, (_, digits) in _RATIOS.items()
        ]
        paper = PAPER_RATIOS.get(row["solver"], "-")
        lines.append((f"{100 * row['level']:g}", row["solver"], *(cell for pair in pairs for cell in pair), paper))
    if lines:
        columns = ("solved %", "solver", *(each for title, _ in _RATIOS.values() for each in (title, "x")), "paper's x")
        table = Table(title="Cost to reach the same share of solved sets", columns=columns, rows=lines)
        found += [table, Notes(lines=_LEVEL_NOTES)]
    return found


def published(paper: Paper, network: str) -> list[Part]:
    """Lay out the paper's times for a network; nothing for one that it has not."""
    solvers, network = list(paper.cost["solvers"]), canonical(network).removeprefix("imagenet")
    rows = [
        (solver, f"{time:g} {column['unit']}", f"{iterations:g}", f"{time / column['time'][-1]:.1f}")
        for column in paper.cost["columns"]
        if canonical(column["network"]) == network
        for solver, time, iterations in zip(solvers, column["time"], column["iterations"], strict=True)
    ]
    if not rows:
        return []
    columns = ("solver", "time", "iterations", "x")
    return [
        Table(title="The paper's Table 4 of this network", columns=columns, rows=rows),
        Notes(lines=paper.cost["notes"]),
    ]


def _number(value: float | None, digits: int, factor: int = 1) -> str:
    return "-" if value is None else f"{factor * value:.{digits}f}"


main = partial(run, "table4", measure)

if __name__ == "__main__":
    main()
