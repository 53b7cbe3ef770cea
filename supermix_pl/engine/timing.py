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
from supermix_pl.engine.pool import Pool
from supermix_pl.engine.slots import Slots
from supermix_pl.mixing import SuperMix
from supermix_pl.mixing.drawn import DrawnSets
from supermix_pl.mixing.inputs import NaturalPass, check_images
from supermix_pl.solver import Outcome, Solution, SolverState
from supermix_pl.solver.chunks import Chunks
from supermix_pl.teacher import FrozenTeacher


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the parts of a stream took once, in seconds, between two training steps.

    Attributes:
        few: A small number of sets.
        many: A large one.
        round_of_few: A round of the small number.
        round_of_many: Of the large one.
        exchange_of_few: Drawing the small number of sets, with the teacher's look at them, their way in and out.
        exchange_of_many: Of the large one.
        draw: Drawing a batch of mixes.
    """

    few: int
    many: int
    round_of_few: float
    round_of_many: float
    exchange_of_few: float
    exchange_of_many: float
    draw: float


def sample(
    mixer: SuperMix,
    teacher: FrozenTeacher,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"] | None,
    *,
    pool: Pool,
) -> Sample:
    """Time the parts of a stream on a batch, once.

    Args:
        mixer: How sets are made and solved.
        teacher: Supervises them.
        images: The batch.
        labels: Its class indices, if there are any.
        pool: With mixes to draw; none come to it.
    """
    pixels, many = check_images(images), len(images)
    few = min(many, max(mixer.k, many // 4))
    natural, classes = mixer.look(teacher, pixels, labels)
    chunks = Chunks(teacher, mixer.chunk_size)

    def round_of(count: int) -> float:
        drawn, start = _sets(mixer, pixels, natural, classes, count)
        slots = Slots(count, drawn, start)
        slots.enter(np.arange(count), drawn, start)
        return _seconds(lambda: slots.advance(mixer.solver, teacher, 1, chunks), images.device)

    def exchange_of(count: int) -> float:
        def in_and_out() -> None:
            _, drawn, start = draw_some(mixer, teacher, pixels, labels, count, np.random.default_rng(0))
            Slots(count, drawn, start).enter(np.arange(count), drawn, start)
            solution = Solution.of(SolverState.start(drawn.sets, start), 0, 0)
            solution.outcomes[:] = Outcome.SOLVED
            looked = NaturalPass(None, None, drawn.num_classes, 0, 0)
            pool.like(count).add(mixer.finish(teacher, drawn, solution, images, looked), 0)

        return _seconds(in_and_out, images.device)

    return Sample(
        few=few,
        many=many,
        round_of_few=round_of(few),
        round_of_many=round_of(many),
        exchange_of_few=exchange_of(few),
        exchange_of_many=exchange_of(many),
        draw=_seconds(lambda: pool.draw(np.random.default_rng(0), images), images.device),
    )


def times_of(samples: Sequence[Sample], *, training: float) -> Times:
    """Sum up samples by their medians.

    Args:
        samples: At least one; those of batches of another size than the last one's do not count.
        training: Seconds of a training step without mixing.
    """
    few, many = samples[-1].few, samples[-1].many
    alike = [each for each in samples if each.many == many]

    def median_of(part: str) -> float:
        return median(getattr(each, part) for each in alike)

    a_round, per_slot = _line(few, many, median_of("round_of_few"), median_of("round_of_many"))
    exchange, per_set = _line(few, many, median_of("exchange_of_few"), median_of("exchange_of_many"))
    return Times(
        training=training, draw=median_of("draw"), exchange=exchange, per_set=per_set, round=a_round, per_slot=per_slot
    )


def _line(few: int, many: int, small: float, large: float) -> tuple[float, float]:
    """Give what work takes whatever its size, and what one more set adds, from what two numbers of them took."""
    slope = max(large - small, 0.0) / (many - few) if many > few else large / many
    return max(large - slope * many, 0.0), max(slope, 1e-9)


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
