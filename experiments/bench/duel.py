"""Solvers side by side on the same sets: tuned on some images, measured on others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench import contenders
from supermix_pl.experiments.bench.contenders import Grid
from supermix_pl.experiments.bench.curve import Cost, Run, cost, run_batch

Batch = tuple[Float[Tensor, "_ c h w"], Int[Tensor, " _"]]
_MEASURED, _TUNED = 0, 1


@dataclass
class Duel:
    """What was measured with one teacher.

    Args:
        teacher_accuracy: Its top-1 accuracy on the images whose sets are reported.
        mixers: Solvers by name.
        runs: Their calls, a batch each.
        tried: What was tried for the tuned solvers, with its cost on other images.
        chosen: The setting that was chosen; None where no masks were as they must be.
    """

    teacher_accuracy: float
    mixers: dict[str, SuperMix] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    tried: dict[SuperMix, Cost] = field(default_factory=dict)
    chosen: dict[str, SuperMix | None] = field(default_factory=dict)


def accuracy(teacher: FrozenTeacher, batches: Sequence[Batch]) -> float:
    """Measure a teacher's top-1 accuracy."""
    with torch.no_grad():
        right = [teacher(images).argmax(dim=1) == labels for images, labels in batches]
    return float(torch.cat(right).double().mean())


def tune(
    duel: Duel,
    base: SuperMix,
    names: Sequence[str],
    grid: Grid,
    teacher: FrozenTeacher,
    batches: Sequence[Batch],
    *,
    seed: int,
    advance: Callable[[str], None],
) -> None:
    """Choose the settings of the tuned solvers; the limit on steps is that of `base`."""

    def measured(mixer: SuperMix) -> Cost:
        if mixer not in duel.tried:
            runs = [
                run_batch(mixer, teacher, *batch, seed=(seed, _TUNED, number)) for number, batch in enumerate(batches)
            ]
            duel.tried[mixer] = cost(runs, mixer.max_steps)
        return duel.tried[mixer]

    reference = measured(replace(base, update_rule=contenders.REFERENCE))
    for name in names:
        results = []
        for mixer in contenders.candidates(base, name, grid):
            advance(f"tuning {name}")
            results.append((mixer, measured(mixer)))
        duel.chosen[name] = contenders.best(name, results, reference)


def measure(
    duel: Duel, teacher: FrozenTeacher, batches: Sequence[Batch], *, seed: int, advance: Callable[[str], None]
) -> None:
    """Run every solver on every batch, in turn, each first as often as the others."""
    names = list(duel.mixers)
    duel.runs = {name: [] for name in names}
    for number, batch in enumerate(batches):
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            advance(name)
            run = run_batch(duel.mixers[name], teacher, *batch, seed=(seed, _MEASURED, number))
            duel.runs[name].append(run)
