"""Tables of what holds, at what cost, one row a mixer; and goals."""

from collections.abc import Sequence
from statistics import mean

from supermix_pl.experiments.bench.pareto.rows import Row
from supermix_pl.experiments.bench.target import Target
from supermix_pl.experiments.shared.mixers import FAST, MEANING, as_call
from supermix_pl.experiments.shared.table import Notes, Part, Table

_MEASURES: dict[str, tuple[str, int, int, str]] = {  # title, factor, digits, note
    "holds": (
        "Holds under fresh views, %",
        100,
        1,
        (
            "The teacher's first k classes are those of the set, under a view on which the set was not solved. Several "
            "views a mix, drawn anew; of small images there are few, and those that a round drew are left out."
        ),
    ),
    "probability": (
        "Probability of the set's classes under fresh views",
        1,
        3,
        "Summed over the classes of a set.",
    ),
    "softness": ("m(1-m) of the masks", 1, 3, "(k - 1) / k^2 for equal masks, 0 for binary ones."),
    "kept": (
        "Saliency kept",
        1,
        3,
        (
            "A source's |image x input gradient of the logit of its own class|, summed over the channels, as shares "
            "s_i of their sum; m_i s_i summed over the pixels and averaged over the sources. Masks at random keep 1/k."
        ),
    ),
}
_PASSES = (
    "Forwards + backwards, means over all sets: the natural image's pass, which gives its class, and the rounds; looks "
    "under fresh views are not among them."
)


def tables(rows: Sequence[Row], rounds: Sequence[int], goals: Sequence[Sequence[float]], view: object) -> list[Part]:
    """Lay out what was measured, and the goals."""
    names, splits = list(dict.fromkeys(row.name for row in rows)), list(dict.fromkeys(row.split for row in rows))
    by_place = {(row.name, row.split): row for row in rows}
    columns = ("mixer", *(f"{number} rounds" for number in rounds))
    found: list[Part] = [Notes(lines=_head(rows, rounds[0], view))]
    for number, (title, factor, digits, note) in _MEASURES.items():
        cells = []
        for name in names:
            row = [[factor * by_place[name, split].numbers(each)[number] for split in splits] for each in rounds]
            cells.append((name, *(" / ".join(f"{value:.{digits}f}" for value in values) for values in row)))
        found += [Table(title=title, columns=columns, sections=(tuple(cells),)), Notes(lines=(note,))]
    passes = tuple((name, *(_passes(rows, name, each) for each in rounds)) for name in names)
    found[3:3] = [Table(title="Passes a mix", columns=columns, sections=(passes,)), Notes(lines=(_PASSES,))]
    if goals:
        reached = tuple(tuple(each.values()) for each in check(rows, goals))
        columns = ("split", "goal", "mixer", "holds %", "verdict")
        found.append(Table(title="Goals", columns=columns, sections=(reached,), names=3))
    return found


def check(rows: Sequence[Row], goals: Sequence[Sequence[float]]) -> list[dict[str, str]]:
    """Hold SuperMix.fast, and the best of all mixers, against goals on every split."""
    checked = []
    for split in dict.fromkeys(row.split for row in rows):
        for forwards, share in goals:
            target = Target(what="holds", limit=share, at_least=True)
            best = {}
            for row in (each for each in rows if each.split == split):
                numbers = map(row.numbers, row.looked)
                best[row.name] = max((n["holds"] for n in numbers if n["forwards"] <= forwards), default=None)
            measured = {name: value for name, value in best.items() if value is not None}
            for name in dict.fromkeys((FAST, max(measured, key=measured.__getitem__, default=FAST))):
                value = best[name]
                checked.append(
                    {
                        "split": split,
                        "goal": f"at least {100 * share:g} % at no more than {forwards:g} forwards a mix",
                        "mixer": name,
                        "found": "-" if value is None else f"{100 * value:.1f}",
                        "verdict": target.verdict(value).rpartition(": ")[2],
                    }
                )
    return checked


def _passes(rows: Sequence[Row], name: str, rounds: int) -> str:
    numbers = [row.numbers(rounds) for row in rows if row.name == name]
    return " + ".join(f"{mean(each[kind] for each in numbers):.1f}" for kind in ("forwards", "backwards"))


def _head(rows: Sequence[Row], rounds: int, view: object) -> tuple[str, ...]:
    first = [row for row in rows if row.name == rows[0].name]
    counts = ", ".join(f"{row.split} {row.numbers(rounds)['sets']}" for row in first)
    written = "; ".join(f"{row.name}: {as_call(row.mixer)}" for row in rows if row.split == rows[0].split)
    return (
        f"Sets of different classes: {counts}; cells: {' / '.join(row.split for row in first)}. Views: {view}.",
        f"{MEANING} Sets of the first two end at the first test that they pass, with so many steps at most.",
        f"With max_steps for the largest number of rounds: {written}.",
    )
