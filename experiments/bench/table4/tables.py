"""Rows and tables of Table 4's benchmark."""

from collections.abc import Mapping, Sequence
from typing import Any

from supermix_pl import SuperMix
from supermix_pl.experiments.bench.table4.curve import Run, cap_for, cost
from supermix_pl.experiments.shared.mixers import as_call
from supermix_pl.experiments.shared.runs.paper import Paper, canonical
from supermix_pl.experiments.shared.table import Notes, Part, Table

REFERENCE = "newton_sp"
PAPER_RATIOS = {"sgd": "67-96", "newton": "19-33", REFERENCE: "1"}
"""Execution times over that of Newton with smooth projection in Table 4, of four networks."""

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


Runs = Mapping[str, Sequence[Run]]


def rows(mixers: Mapping[str, SuperMix], runs: Runs, caps: Sequence[int]) -> list[dict[str, Any]]:
    """Return every solver's numbers under every limit."""
    return [_names(mixers, name) | _at(runs[name], cap) for name in runs for cap in caps]


def level_rows(mixers: Mapping[str, SuperMix], runs: Runs, levels: Sequence[float]) -> list[dict[str, Any]]:
    """Return every solver's numbers where a share of the sets is solved, and their ratios to the reference's."""
    listed = []
    for level in levels:
        caps = {name: cap_for(mine, level) for name, mine in runs.items()}
        found = {name: {} if cap is None else _at(runs[name], cap) for name, cap in caps.items()}
        theirs = found[REFERENCE]
        for name, mine in found.items():
            ratios = {f"{key}_ratio": mine[key] / theirs[key] if mine and theirs.get(key) else None for key in _RATIOS}
            listed.append(_names(mixers, name) | {"level": level, "reached": bool(mine)} | mine | ratios)
    return listed


def tables(costs: Sequence[dict[str, Any]], levels: Sequence[dict[str, Any]]) -> list[Part]:
    """Lay out both kinds of rows."""
    cells = tuple((row["solver"], *(_number(row[key], *form) for key, *form in _COSTS.values())) for row in costs)
    settings = dict.fromkeys(f"{row['solver']}: {row['mixer']}" for row in costs)
    found: list[Part] = [
        Table(title="Cost under a limit on steps", columns=("solver", *_COSTS), sections=(cells,)),
        Notes(lines=(*_NOTES, f"{'; '.join(settings)}.")),
    ]
    reached = {row["level"] for row in levels if row["reached"]}
    if reached:
        lines = []
        for row in (each for each in levels if each["level"] in reached):
            measured = [
                cell
                for key, (_, digits) in _RATIOS.items()
                for cell in (_number(row.get(key), digits), _number(row[f"{key}_ratio"], 1))
            ]
            lines.append((f"{100 * row['level']:g}", row["solver"], *measured, PAPER_RATIOS.get(row["solver"], "-")))
        heads = [each for title, _ in _RATIOS.values() for each in (title, "x")]
        columns = ("solved %", "solver", *heads, "paper's x")
        table = Table(title="Cost to reach the same share of solved sets", columns=columns, sections=(tuple(lines),))
        found += [table, Notes(lines=_LEVEL_NOTES)]
    return found


def published(paper: Paper, network: str) -> list[Part]:
    """Lay out the paper's times for a network; nothing for one that it has not."""
    solvers, network = list(paper.cost["solvers"]), canonical(network).removeprefix("imagenet")
    rows = [
        tuple(
            (solver, f"{time:g} {column['unit']}", f"{iterations:g}", f"{time / column['time'][-1]:.1f}")
            for solver, time, iterations in zip(solvers, column["time"], column["iterations"], strict=True)
        )
        for column in paper.cost["columns"]
        if canonical(column["network"]) == network
    ]
    if not rows:
        return []
    columns = ("solver", "time", "iterations", "x")
    return [
        Table(title="The paper's Table 4 of this network", columns=columns, sections=tuple(rows)),
        Notes(lines=tuple(paper.cost["notes"])),
    ]


def _names(mixers: Mapping[str, SuperMix], name: str) -> dict[str, Any]:
    return {"k": mixers[name].k, "solver": name, "mixer": as_call(mixers[name])}


def _at(runs: Sequence[Run], cap: int) -> dict[str, Any]:
    return {"cap": cap, **cost(runs, cap).numbers()}


def _number(value: float | None, digits: int, factor: int = 1) -> str:
    return "-" if value is None else f"{factor * value:.{digits}f}"
