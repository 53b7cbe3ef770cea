"""What the parts of a stream take on the machine at hand."""

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.engine.plan import Times
from supermix_pl.engine.slots import Slots
from supermix_pl.mixing import SuperMix
from supermix_pl.mixing.drawn import DrawnSets
from supermix_pl.mixing.inputs import NaturalPass
from supermix_pl.solver.chunks import Chunks
from supermix_pl.teacher import FrozenTeacher

_REPEATS = 3


def measure(
    mixer: SuperMix,
    teacher: FrozenTeacher,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"] | None,
    *,
    training: float,
    draw: Callable[[], object],
) -> Times:
    """Time the parts of a stream on a batch.

    Args:
        mixer: How sets are made and solved.
        teacher: Supervises them.
        images: The batch, in the solver's precision.
        labels: Its class indices, if there are any.
        training: Seconds of a training step without mixing.
        draw: Draws a batch of mixes.
    """
    natural, classes = mixer.look(teacher, images, labels)
    chunks = Chunks(teacher, mixer.chunk_size)
    many = len(images)
    few = min(many, max(mixer.k, many // 4))

    def round_of(count: int) -> float:
        drawn, start = _sets(mixer, images, natural, classes, count)
        slots = Slots(count, drawn, start)
        slots.enter(np.arange(count), drawn, start)
        return _seconds(lambda: slots.advance(mixer.solver, teacher, 1, chunks), images.device)

    def enter() -> None:
        entering = images[:few]  # as few as enter in a step
        looked = mixer.look(teacher, entering, None if labels is None else labels[:few])
        drawn, start = _sets(mixer, entering, *looked, few)
        Slots(few, drawn, start).enter(np.arange(few), drawn, start)

    round_of(few)
    small, large = round_of(few), round_of(many)
    per_slot = max(large - small, 0.0) / (many - few) if many > few else large / many
    return Times(
        training=training,
        constant=max(large - per_slot * many, 0.0) + _seconds(draw, images.device),
        per_slot=max(per_slot, 1e-9),
        per_set=_seconds(enter, images.device) / few * mixer.k,
    )


def _sets(
    mixer: SuperMix, images: Float[Tensor, "b c h w"], natural: NaturalPass, classes: Int[Tensor, " b"], count: int
) -> tuple[DrawnSets, Float[Tensor, "count k s t"]]:
    source_indices = (np.arange(count)[:, None] + np.arange(mixer.k)) % len(images)
    return mixer.draw(images, natural, classes, source_indices, np.full((count, mixer.k), 1 / mixer.k))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Give the median time of some repetitions."""
    taken = []
    for _ in range(_REPEATS):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        taken.append(time.perf_counter() - start)
    return median(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
