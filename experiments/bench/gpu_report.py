"""The table of the GPU's benchmark: a column a network."""

from collections.abc import Mapping, Sequence
from typing import Any

from supermix_pl.experiments.bench.gpu_checks import Check
from supermix_pl.experiments.bench.gpu_subjects import NETWORKS
from supermix_pl.experiments.bench.tables import Table

_ROWS = (
    ("1: step with MixUp, ms", "step", "mixup_ms", 1, 1),
    ("1: step with the stream, ms", "step", "stream_ms", 1, 1),
    ("1: ratio (<= 1.25)", "step", "stream_ratio", 1, 3),
    ("1: new mixes a step", "step", "stream_fresh", 1, 1),
    ("1: step with 8 uses of a mix, ms", "step", "reusing_ms", 1, 1),
    ("1: ratio with 8 uses", "step", "reusing_ratio", 1, 3),
    ("1: new mixes a step with 8 uses", "step", "reusing_fresh", 1, 1),
    ("2: batch engine, ms", "walltime", "solver_ms", 1, 0),
    ("2: bare passes, ms", "walltime", "bare_ms", 1, 0),
    ("2: ratio (<= 1.3 for resnet56)", "walltime", "ratio", 1, 3),
    ("3: speed-up of bf16, channels_last, folded", "precision", "speed_up", 1, 2),
    ("3: points of acceptance from fp32", "precision", "points_apart", 1, 1),
    ("3: solved again in fp32, %", "precision", "retested_share", 100, 1),
    ("ms / accepted mix, paper's solver", "accepted", "paper_ms_a_solved_set", 1, 2),
    ("ms / accepted mix, fast", "accepted", "fast_ms_a_solved_set", 1, 2),
    ("ms / accepted mix, fast, bf16", "accepted", "fast_bf16_ms_a_solved_set", 1, 2),
    ("ms / mix, accepted or not, fast, bf16", "accepted", "fast_bf16_ms_an_attempted_set", 1, 2),
    ("accepted, paper's solver, %", "accepted", "paper_solved_share", 100, 1),
    ("accepted, fast, %", "accepted", "fast_solved_share", 100, 1),
    ("largest batch", "largest", "images", 1, 0),
    ("its peak, GiB", "largest", "peak_bytes", 2**-30, 1),
)
_PUBLISHED = "Table 4's execution time, ms"
_NOTES = (
    (
        "1: student like the teacher, bf16, extend, SuperMix.fast; the stream at budget 0.25, and at reuse 8. "
        "2: float32, batch norm folded. 3: float32 is eager and unfolded, masks 8x8. Accepted: whole calls of the "
        "mixer on a batch."
    ),
    (
        "Untrained: without weights from --checkpoint; batch norm and last layer are fitted to the batch, so that "
        "classes differ, and nothing else is learnt. Acceptance, and what is divided by it, means nothing there."
    ),
    "Table 4: a batch of 128 on two Titan RTX; the paper does not say per what. '-': unpublished, or not reached.",
    "Largest batch: doubled until memory ends, two sources, one step; the JSON says what ended it.",
)

Results = Mapping[str, Mapping[str, dict[str, Any]]]


def tables(checks: Sequence[Check], results: Results, trained: Mapping[str, bool]) -> list[Table]:
    """Lay out the checks and the numbers."""
    found = []
    if checks:
        rows = [(check.name, "passed" if check.passed else "FAILED", check.found) for check in checks]
        found.append(Table(title="Checks", columns=("check", "", "found"), rows=rows))
    if results:
        names = [name if trained[name] else f"{name} (untrained)" for name in results]
        rows = [
            (label, *(_cell(results[name].get(part), number, factor, digits) for name in results))
            for label, part, number, factor, digits in _ROWS
        ]
        rows.append((_PUBLISHED, *(NETWORKS[name][1] for name in results)))
        found.append(Table(title="Numbers", columns=("", *names), rows=rows, notes=_NOTES))
    return found


def _cell(numbers: dict[str, Any] | None, number: str, factor: float, digits: int) -> str:
    if numbers is None:
        return "-"
    if "error" in numbers:
        return numbers["error"].partition(":")[0]
    value = numbers[number]
    return "-" if value is None else f"{factor * value:.{digits}f}"
