"""What is timed against a stream of MixUp: streams of SuperMix.fast, the batch engine; and the table of both."""

import inspect
from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixUp, SuperMix
from supermix_pl.engine import BatchEngine, StreamEngine
from supermix_pl.experiments.bench.program import named, tracked
from supermix_pl.experiments.bench.step.training import Contender, Timing, Training
from supermix_pl.experiments.shared.statistics import median_cell
from supermix_pl.transforms import View

REFERENCE, RECOMMENDED, BATCH = "MixUp", "stream", "batch"
CHEAP = "stream, max_steps=6, show_from=0"
GOALS = {
    RECOMMENDED: {"ratio": 1.45, "forwards": 1.5, "backwards": 1.0},
    CHEAP: {"ratio": 1.25, "forwards": 1.0, "backwards": 0.5},
}
"""Most times the reference's step, and most passes a shown mix."""
COLUMNS = ("step", "ms", "of it mixing", "ratio", "CPU ratio", "forwards / mix", "backwards / mix", "holds %", "goals")
NOTES = (
    (
        "A step: the teacher's pass of the natural images, mixing, then forward, backward and update of the student on "
        "all rows, by the distillation loss. Median of the blocks' means (least - most); ratios within a block to "
        "MixUp, a stream whose mixes the teacher labels too. CPU ratio: of the time of the process's threads."
    ),
    (
        "Forwards, backwards: the teacher's a mix that is shown, those of the natural images left out, which all have. "
        "Holds: share of the shown mixes, among them those of young sets."
    ),
)
_OF_THE_ENGINE = set(inspect.signature(StreamEngine).parameters)


def contenders(streams: Sequence[Mapping[str, Any]], k: int, *, with_batch: bool = True) -> list[Contender]:
    """Return what is compared, the reference first."""
    reference = Contender(name=REFERENCE, mixer=MixUp(k=k), engine=StreamEngine())
    batch = [Contender(name=BATCH, mixer=SuperMix.fast(k=k), engine=BatchEngine())] if with_batch else []
    return [reference, *(_stream(changes, k) for changes in streams), *batch]


def _stream(changes: Mapping[str, Any], k: int) -> Contender:
    engine = {name: value for name, value in changes.items() if name in _OF_THE_ENGINE}
    mixer = {name: value for name, value in changes.items() if name not in _OF_THE_ENGINE}
    name = ", ".join(filter(None, [RECOMMENDED, named(changes)]))
    return Contender(name=name, mixer=SuperMix.fast(k=k, **mixer), engine=StreamEngine(**engine))


def time_steps(
    chosen: Sequence[Contender],
    student: nn.Module,
    teacher: FrozenTeacher,
    batches: Sequence[tuple[Tensor, Tensor]],
    view: View,
    *,
    steps: int,
    blocks: int,
    low_precision: bool,
) -> dict[str, Timing]:
    """Time all contenders in turns."""
    trainings = [Training(each, student, teacher, view, low_precision=low_precision) for each in chosen]
    for training in tracked(trainings, "warm-up"):
        training.warm_up(batches)
    for block in tracked(range(blocks), "blocks"):
        turn = block % len(trainings)
        for training in (*trainings[turn:], *trainings[:turn]):
            training.block(batches, block, steps)
    return {training.contender.name: training.timing for training in trainings}


def rows(timings: Mapping[str, Timing]) -> tuple[tuple[str, ...], ...]:
    """Lay the contenders out beside the reference, as `COLUMNS` has it."""
    found = []
    for name, timing in timings.items():
        ratios = timing.ratios(timings[REFERENCE])
        passes = mean(timing.forwards), mean(timing.backwards)
        times = (median_cell(timing.seconds, 1, 1000), median_cell(timing.mixing, 1, 1000), median_cell(ratios, 3))
        holds = f"{100 * mean(timing.holds):.0f}" if timing.holds else "-"
        cpu = median_cell(timing.ratios(timings[REFERENCE], "cpu"), 3)
        last = (holds, verdicts(name, median(ratios), *passes))
        found.append((name, *times, cpu, *(f"{each:.2f}" for each in passes), *last))
    return tuple(found)


def verdicts(name: str, ratio: float, forwards: float, backwards: float) -> str:
    """Write which goals of a stream are met; passes are compared to a hundredth."""
    found = {"ratio": ratio, "forwards": round(forwards, 2), "backwards": round(backwards, 2)}
    goals = GOALS.get(name, {})
    return (
        "; ".join(
            f"{what} <= {limit:g}: {'met' if found[what] <= limit else 'missed'}" for what, limit in goals.items()
        )
        or "-"
    )
