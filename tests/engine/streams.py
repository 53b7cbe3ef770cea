"""Streams to be tested: cheap images and teachers, images that tell who they are, and sets known by their weights."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.engine import StreamEngine
from tests.problems import NUM_CLASSES, Counting, FlatTeacher

SIDE, SIZE, ROUNDS = 8, 16, 12
_STEPS: dict[str, Any] = {"mask_size": 4, "max_steps": ROUNDS, "max_logit_step": 1.0, "momentum": 0.3}
EXACT = SuperMix(**_STEPS, early_stop=False, pairing="random")
VIEWED = SuperMix(**_STEPS, views="auto", pairing="random")
FAST = SuperMix.fast(mask_size=4, max_steps=ROUNDS)
EARLY = SuperMix(mask_size=4, max_steps=20, max_logit_step=0.3, pairing="random")


def teacher_of(module: nn.Module | None = None) -> FrozenTeacher:
    return FrozenTeacher(FlatTeacher() if module is None else module, fold=False)


def counting_teacher() -> tuple[Counting, FrozenTeacher]:
    counting = Counting(FlatTeacher())
    return counting, FrozenTeacher(counting, fold=False)


def batch_of(step: int, size: int = SIZE, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise, and labels that are not the teacher's."""
    chance = torch.Generator().manual_seed(1000 * seed + step)
    images = torch.randn(size, 3, SIDE, SIDE, generator=chance)
    return images, torch.randint(NUM_CLASSES, (size,), generator=chance)


def named_batch(step: int, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Images of one value each, which is the number of the image; 8 bits keep it exactly."""
    numbers = torch.arange(step * size, (step + 1) * size)
    return numbers.float()[:, None, None, None].expand(-1, 3, SIDE, SIDE).clone(), numbers % NUM_CLASSES


def odd_sizes(steps: int) -> Iterable[int]:
    """Epochs of five whole batches and a small one."""
    return (SIZE if step % 6 < 5 else 7 for step in range(steps))


@dataclass
class Ran:
    """What a stream gave in each step."""

    engine: StreamEngine
    mixes: list[MixedBatch]
    metrics: list[dict[str, float]]
    places: list[Tensor]


def run(
    engine: StreamEngine,
    steps: int | Iterable[int],
    mixer: Any = VIEWED,
    teacher: FrozenTeacher | None = None,
    *,
    batch: Callable[..., tuple[Tensor, Tensor]] = batch_of,
    sizes: Iterable[int] | None = None,
    watch: Callable[[int, MixedBatch], None] | None = None,
    blind: bool = False,
    **options: Any,
) -> Ran:
    """Mix batch after batch, under the engine's own view unless told otherwise."""
    teacher = None if blind else teacher or teacher_of()
    options = {"view": engine.default_transform} | options
    ran = Ran(engine, [], [], [])
    numbers = range(steps) if isinstance(steps, int) else steps
    for step, size in zip(numbers, sizes or [SIZE] * 10**6, strict=False):
        images, labels = batch(step, size)
        mix = engine.mix(mixer, teacher, images, labels, seed=(0, step), **options)
        assert len(mix) == size
        if watch is not None:
            watch(step, mix)
        assert engine._state.places is not None
        ran.mixes.append(mix)
        ran.metrics.append(engine.metrics())
        ran.places.append(engine._state.places)
    return ran


def names_of(mix: MixedBatch) -> list[tuple[float, ...]]:
    """Sets are known by their weights, which are drawn from a continuum."""
    return [tuple(weights) for weights in mix.mix_weights.tolist()]
