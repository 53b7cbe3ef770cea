"""Tables of the front, one row a setting, and the goals that were set for SuperMix.fast."""

import argparse
from collections.abc import Sequence
from statistics import mean
from typing import Any

from supermix_pl import SuperMix
from supermix_pl.experiments.bench.acceptance import shown
from supermix_pl.experiments.bench.front_rows import Row
from supermix_pl.experiments.bench.front_settings import FAST
from supermix_pl.experiments.bench.tables import Table, Target

REMARK = "All settings ran in one process on the same sets. Passes do not depend on the machine."
GOALS = {("cifar100", 2): ((13.0, 0.85), (9.0, 0.72))}
"""By data set and k: a number of forwards a mix, and the share that should hold at no more of them."""

_MEASURES = (
    ("holds", "Holds under fresh views, %", 100, 1),
    ("probability", "Probability of the set's classes under fresh views", 1, 3),
    ("softness", "m(1-m) of the masks", 1, 3),
    ("kept", "Saliency kept", 1, 3),
)
_NOTES = {
    "holds": (
        "Holds: the teacher's first k classes are those of the set, under a view on which the set was not solved. "
        "Several views a mix, drawn anew; of small images there are few, and those that a round drew are left out."
    ),
    "probability": "Summed over the classes of a set.",
    "softness": "(k - 1) / k^2 for equal masks, 0 for binary ones.",
    "kept": (
        "A source's |image x input gradient of the logit of its own class|, summed over the channels, as shares s_i of "
        "their sum; m_i s_i summed over the pixels and averaged over the sources. Masks at random keep 1/k."
    ),
}


def tables(rows: Sequence[Row], options: argparse.Namespace) -> list[Table]:
    """Lay out what was measured, and the goals."""
    names, splits = list(dict.fromkeys(row.name for row in rows)), options.splits
    by_place = {(row.name, row.split): row for row in rows}
    columns = ("setting", *(f"{number} rounds" for number in options.rounds))

    def cells(name: str, number: str, factor: float, digits: int) -> tuple[str, ...]:
        found = [
            " / ".join(f"{factor * by_place[name, split].numbers(each)[number]:.{digits}f}" for split in splits)
            for each in options.rounds
        ]
        return name, *found

    found = []
    for number, title, factor, digits in _MEASURES:
        notes = (_NOTES[number],) if number != "holds" else (*_sets(rows, options), _NOTES[number])
        filled = [cells(name, number, factor, digits) for name in names]
        found.append(Table(title=title, columns=columns, rows=filled, notes=notes))
    passes = [(name, *(_passes(rows, name, each) for each in options.rounds)) for name in names]
    note = (
        "Forwards + backwards, means over all sets: the natural image's pass, which gives its class, and the rounds; "
        "looks under fresh views are not among them."
    )
    found.insert(1, Table(title="Passes a mix", columns=columns, rows=passes, notes=(note,)))
    goals = [(each["split"], each["goal"], each["setting"], each["found"], each["verdict"]) for each in check(rows)]
    if goals and (options.case.dataset, options.k) in GOALS:
        columns = ("split", "goal", "setting", "holds %", "verdict")
        found.append(Table(title="Goals", columns=columns, rows=goals))
    return found


def content(rows: Sequence[Row], options: argparse.Namespace) -> dict[str, Any]:
    """Give all numbers."""
    return {
        "settings_of_the_solver": [
            {
                "setting": row.name,
                "split": row.split,
                "mixer": _written(row),
                "after": [row.numbers(rounds) for rounds in options.rounds],
            }
            for row in rows
        ],
        "goals": check(rows) if (options.case.dataset, options.k) in GOALS else [],
    }


def check(rows: Sequence[Row], goals: Sequence[tuple[float, float]] = GOALS["cifar100", 2]) -> list[dict[str, str]]:
    """Hold SuperMix.fast, and the best of all settings, against goals on every split."""
    checked = []
    for split in dict.fromkeys(row.split for row in rows):
        for forwards, share in goals:
            target = Target(what="holds", limit=share, at_least=True)
            best = {
                row.name: max(
                    (each["holds"] for each in map(row.numbers, row.worths) if each["forwards"] <= forwards),
                    default=None,
                )
                for row in rows
                if row.split == split
            }
            measured = {name: value for name, value in best.items() if value is not None}
            for name in dict.fromkeys((FAST, max(measured, key=measured.__getitem__, default=FAST))):
                value = best[name]
                checked.append(
                    {
                        "split": split,
                        "goal": f"at least {100 * share:g} % at no more than {forwards:g} forwards a mix",
                        "setting": name,
                        "found": "-" if value is None else f"{100 * value:.1f}",
                        "verdict": target.verdict(value).rpartition(": ")[2],
                    }
                )
    return checked


def _passes(rows: Sequence[Row], name: str, rounds: int) -> str:
    numbers = [row.numbers(rounds) for row in rows if row.name == name]
    return " + ".join(f"{mean(each[kind] for each in numbers):.1f}" for kind in ("forwards", "backwards"))


def _sets(rows: Sequence[Row], options: argparse.Namespace) -> tuple[str, ...]:
    first = rows[0]
    counts = ", ".join(
        f"{row.split} {row.numbers(options.rounds[0])['sets']}" for row in rows if row.name == first.name
    )
    written = "; ".join(f"{row.name}: {_written(row)}" for row in rows if row.split == first.split)
    return (
        (
            f"Sets of different classes: {counts}; cells: {' / '.join(options.splits)}. Views: {options.case.view}, "
            f"{options.views} a mix. Sets of the first two solvers end at the first test that they pass, with so many "
            "steps at most."
        ),
        f"Settings, with max_steps for the largest number of rounds: {written}.",
    )


def _written(row: Row) -> str:
    return shown(row.mixer) if isinstance(row.mixer, SuperMix) else repr(row.mixer)
