"""Tables of the front, and the targets that were set for SuperMix.fast."""

from collections.abc import Sequence
from typing import Any

from supermix_pl.experiments.bench.acceptance import shown
from supermix_pl.experiments.bench.front_rows import Row
from supermix_pl.experiments.bench.front_solvers import FAST, PAPER
from supermix_pl.experiments.bench.tables import Table, Target

REMARK = (
    "All solvers ran in one process, in turn, on the same sets. Passes do not depend on the machine. Times do, and "
    "other work may have run beside: compare only times of one file."
)
_SOFTNESS = 0.12
_TIMES = 2.0
_LIMITS = {("cifar100", 2): (0.98, 9.0), ("cifar100", 3): (0.95, 16.0)}
_COLUMNS = (
    ("solved %", "solved_fraction", 100, 1),
    ("forwards / attempted set", "forwards_per_attempted", 1, 2),
    ("backwards / attempted set", "backwards_per_attempted", 1, 2),
    ("forwards / solved set", "forwards_per_solved", 1, 2),
    ("ms / solved set", "ms_per_solved", 1, 1),
    ("m(1-m)", "mask_softness", 1, 3),
    ("roughness", "mask_roughness", 1, 4),
    ("saliency kept", "kept", 1, 3),
    ("KL", "divergence", 1, 2),
    ("heaviest first %", "heaviest", 100, 0),
)
_NOTES = (
    "Limit: on steps; one run at the largest tells what the lower ones give.",
    (
        "Forwards and backwards: all rounds that the attempted sets took part in, solved or not, with the label "
        "forward of the image in column 0 of each, and its gradient where the masks start from saliency."
    ),
    (
        "Saliency kept: a source's |image x input gradient of the logit of its own class|, summed over the channels, "
        "as shares s_i of their sum; m_i s_i summed over the pixels and averaged over the sources. Masks at random "
        "keep 1/k."
    ),
    (
        "KL: of the soft target to the teacher's prediction of the mix. Heaviest first: the teacher's first class is "
        "that of the source of the largest weight. Roughness: total variation of the masks (3-norm)."
    ),
    "m(1-m), roughness, saliency kept, KL, heaviest first: means over the solved sets' masks.",
)


def tables(rows: Sequence[Row], dataset: str, caps: Sequence[int]) -> list[Table]:
    """Lay out what was measured, and the targets."""
    sets = {row.split: sum(len(run.num_steps) for run in row.runs) for row in rows}
    mixers = "; ".join(f"{row.name}: {shown(row.mixer)}" for row in rows if row.split == rows[0].split)
    counts = ", ".join(f"{split} {count}" for split, count in sets.items())
    notes = (f"Sets: {counts}.", *_NOTES, f"Solvers: {mixers}.")
    measured = Table(
        title="Cost and worth under a limit on steps",
        columns=("solver", "split", "limit", *(column[0] for column in _COLUMNS), "saliency kept, all sets"),
        rows=[_cells(row, cap, caps[-1]) for row in rows for cap in caps],
        notes=notes,
    )
    columns = ("split", "target", "found", "verdict")
    checked = [(each["split"], each["target"], each["found"], each["verdict"]) for each in targets(rows, dataset, caps)]
    return [measured, Table(title=f"Targets for SuperMix.fast, limit {caps[-1]}", columns=columns, rows=checked)]


def content(rows: Sequence[Row], dataset: str, caps: Sequence[int]) -> dict[str, Any]:
    """Give all numbers."""
    return {
        "solvers": [
            {
                "solver": row.name,
                "split": row.split,
                "mixer": shown(row.mixer),
                "limits": [row.numbers(cap) for cap in range(caps[-1] + 1)],
                "kept_by_all_sets": row.kept_by_all(),
            }
            for row in rows
        ],
        "targets": targets(rows, dataset, caps),
    }


def targets(rows: Sequence[Row], dataset: str, caps: Sequence[int]) -> list[dict[str, str]]:
    """Hold SuperMix.fast against its targets on every split, both solvers at the largest limit."""
    checked = []
    for split in dict.fromkeys(row.split for row in rows):
        paper, fast = (next(row for row in rows if (row.name, row.split) == (name, split)) for name in (PAPER, FAST))
        theirs, ours = paper.numbers(caps[-1]), fast.numbers(caps[-1])
        wanted: list[tuple[Target, float | None]] = []
        if limits := _LIMITS.get((dataset, fast.mixer.k)):
            solved, forwards = limits
            wanted.append((Target(what="solved", limit=solved, at_least=True), ours["solved_fraction"]))
            wanted.append((Target(what="forwards / attempted set", limit=forwards), ours["forwards_per_attempted"]))
        if theirs["solved_per_forward"]:
            ratio = (ours["solved_per_forward"] or 0.0) / theirs["solved_per_forward"]
            target = Target(what="solved / forward, over the paper's solver's", limit=_TIMES, at_least=True)
            wanted.append((target, ratio))
        if theirs["kept"] is not None:
            target = Target(what="saliency kept, the paper's solver's", limit=round(theirs["kept"], 4), at_least=True)
            wanted.append((target, ours["kept"]))
        target = Target(what="saliency kept of all sets", limit=round(paper.kept_by_all(), 4), at_least=True)
        wanted.append((target, fast.kept_by_all()))
        wanted.append((Target(what="m(1-m)", limit=_SOFTNESS), ours["mask_softness"]))
        for target, value in wanted:
            what, _, verdict = target.verdict(value).rpartition(": ")
            found = "-" if value is None else f"{value:.3f}"
            checked.append({"split": split, "target": what, "found": found, "verdict": verdict})
    return checked


def _cells(row: Row, cap: int, largest: int) -> tuple[str, ...]:
    numbers = row.numbers(cap)
    cells = []
    for _, name, factor, digits in _COLUMNS:
        value = numbers[name]
        cells.append("-" if value is None else f"{factor * value:.{digits}f}")
    return row.name, row.split, str(cap), *cells, f"{row.kept_by_all():.3f}" if cap == largest else ""
