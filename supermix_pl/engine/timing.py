"""What the parts of a stream take on the machine at hand."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.engine.draw import draw_some
from supermix_pl.engine.plan import Times
from supermix_pl.engine.slots import Slots
from supermix_pl.mixing import SuperMix
from supermix_pl.mixing.drawn import DrawnSets
from supermix_pl.mixing.inputs import NaturalPass
from supermix_pl.solver.chunks import Chunks
from supermix_pl.teacher import FrozenTeacher


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the parts of a stream took once, in seconds, between two training steps.

    Attributes:
        few: Number of sets of the small round, and of those that entered.
        many: Number of sets of the large round.
        small: The small round.
        large: The large round.
        entry: Drawing `few` sets, the teacher's look at their images among it, and their way in.
        draw: Drawing a batch of mixes.
    """

    few: int
    many: int
    small: float
    large: float
    entry: float
    draw: float


def sample(
    mixer: SuperMix,
    teacher: FrozenTeacher,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"] | None,
    *,
    draw: Callable[[], object],
) -> Sample:
    """Time the parts of a stream on a batch, once.

    Args:
        mixer: How sets are made and solved.
        teacher: Supervises them.
        images: The batch, in the solver's precision.
        labels: Its class indices, if there are any.
        draw: Draws a batch of mixes.
    """
    many = len(images)
    few = min(many, max(mixer.k, many // 4))
    natural, classes = mixer.look(teacher, images, labels)
    chunks = Chunks(teacher, mixer.chunk_size)

    def round_of(count: int) -> float:
        drawn, start = _sets(mixer, images, natural, classes, count)
        slots = Slots(count, drawn, start)
        slots.enter(np.arange(count), drawn, start)
        return _seconds(lambda: slots.advance(mixer.solver, teacher, 1, chunks), images.device)

    def enter() -> None:
        _, drawn, start = draw_some(mixer, teacher, images, labels, few, np.random.default_rng(0))
        Slots(few, drawn, start).enter(np.arange(few), drawn, start)

    return Sample(
        few=few,
        many=many,
        small=round_of(few),
        large=round_of(many),
        entry=_seconds(enter, images.device),
        draw=_seconds(draw, images.device),
    )


def times_of(samples: Sequence[Sample], *, training: float) -> Times:
    """Sum up samples by their medians.

    Args:
        samples: At least one; those of batches of another size than the last one's do not count.
        training: Seconds of a training step without mixing.
    """
    few, many = samples[-1].few, samples[-1].many
    alike = [each for each in samples if each.many == many]
    small, large = median(each.small for each in alike), median(each.large for each in alike)
    per_slot = max(large - small, 0.0) / (many - few) if many > few else large / many
    return Times(
        training=training,
        constant=max(large - per_slot * many, 0.0) + median(each.draw for each in alike),
        per_slot=max(per_slot, 1e-9),
        per_set=median(each.entry for each in alike) / few,
    )


def _sets(
    mixer: SuperMix, images: Float[Tensor, "b c h w"], natural: NaturalPass, classes: Int[Tensor, " b"], count: int
) -> tuple[DrawnSets, Float[Tensor, "count k s t"]]:
    source_indices = (np.arange(count)[:, None] + np.arange(mixer.k)) % len(images)
    return mixer.draw(images, natural, classes, source_indices, np.full((count, mixer.k), 1 / mixer.k))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
