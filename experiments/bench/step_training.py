"""A student that is trained on batches with mixes, a step at a time, and what may be put into its batches."""

import argparse
import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean, median
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixUp, SuperMix
from supermix_pl.engine import BatchEngine, Engine, Run, StreamEngine
from supermix_pl.experiments.bench.passes import timed
from supermix_pl.losses import soft_cross_entropy
from supermix_pl.mixing import Mixer
from supermix_pl.rewriting import BatchRewriter
from supermix_pl.transforms import RandomCropFlip

REFERENCE = "mixup"
_MOST_STEPS_TO_WARM = 200


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What is put into the batches.

    Args:
        name: In the table.
        mixer: Makes the mixes.
        engine: When.
        labelled: Whether a teacher labels the mixes; else they carry the weights of their sources.
    """

    name: str
    mixer: Mixer
    engine: Engine
    labelled: bool = True


@dataclass(kw_only=True)
class Timing:
    """A contender's steps, of every block.

    Attributes:
        mixing: Seconds of mixing, a list a block.
        training: Seconds of the training step after it, likewise.
        fresh: New mixes of every step.
        solved: Share of the drawn mixes that are solved, of every step.
        plan: Slots and rounds of a stream.
    """

    mixing: list[list[float]] = field(default_factory=list)
    training: list[list[float]] = field(default_factory=list)
    fresh: list[float] = field(default_factory=list)
    solved: list[float] = field(default_factory=list)
    plan: dict[str, Any] | None = None

    def steps(self) -> list[float]:
        """Give the mean step of every block: a stream may have turns in some steps only."""
        return [
            mean([a + b for a, b in zip(mixing, training, strict=True)])
            for mixing, training in zip(self.mixing, self.training, strict=True)
        ]


NAMES = (
    "mixup, labelled by the teacher",
    "stream, fast",
    "stream, paper's solver",
    "8 uses, fast",
    "batch, fast",
    "batch, paper's solver",
)
"""What stands beside the reference."""


class Training:
    """A student that is trained on extended batches, a step at a time.

    Args:
        contender: What is put into the batches.
        student: Is trained, as a copy.
        teacher: Supervises and labels the mixes.
        low_precision: Whether the student runs under bfloat16 autocast.
    """

    def __init__(
        self, contender: Contender, student: nn.Module, teacher: FrozenTeacher, *, low_precision: bool
    ) -> None:
        self.contender = contender
        self.timing = Timing()
        self._student = copy.deepcopy(student).train()
        self._optimizer = torch.optim.SGD(self._student.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        self._teacher = teacher if contender.labelled else None
        self._low_precision = low_precision
        self._seen: list[float] = []
        self._number = 0
        contender.engine.begin(Run(training_seconds=lambda: median(self._seen)))
        self._rewriter = BatchRewriter(
            mixer=contender.mixer,
            engine=contender.engine,
            mode="extend",
            targets="teacher" if contender.labelled else "soft",
            input_key=0,
            target_key=1,
            mixed_transform=RandomCropFlip(padding=2),
        )

    def step(self, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> tuple[float, float]:
        """Mix a batch and train on it; give the seconds of both."""
        device = images.device
        (batch, mix), mixing = timed(
            lambda: self._rewriter.rewrite((images, labels), self._teacher, stream=(0, self._number)), device
        )
        _, training = timed(lambda: self._train(*batch), device)
        self._number += 1
        self._seen.append(training)
        self.timing.fresh.append(self.contender.engine.metrics().get("fresh", float(len(mix))))
        self.timing.solved.append(mix.solved.float().mean().item())
        return mixing, training

    def warm_up(self, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Run until a stream draws from its pool, and some steps at least."""
        engine = self.contender.engine
        for number in range(_MOST_STEPS_TO_WARM):
            self.step(*batches[number % len(batches)])
            if number >= 3 and (not isinstance(engine, StreamEngine) or engine.metrics()["age"] > 0):
                break
        if isinstance(engine, StreamEngine):
            for number in range(30 * engine.period):  # until the sets in its slots end at their steady rate
                self.step(*batches[number % len(batches)])
            self.timing.plan = None if engine.plan is None else asdict(engine.plan)
        self.timing.fresh.clear()
        self.timing.solved.clear()

    def _train(self, images: Tensor, targets: Tensor) -> None:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self._low_precision):
            logits = self._student(images)
        self._optimizer.zero_grad()
        soft_cross_entropy(logits.float(), targets).backward()
        self._optimizer.step()


def contenders(options: argparse.Namespace, num_classes: int) -> list[Contender]:
    """List what is compared, the reference first."""
    paper = SuperMix(k=options.k, mask_size=options.mask_size, sigma=options.sigma)
    fast = SuperMix.fast(k=options.k, mask_size=options.mask_size)
    blind = MixUp(k=options.k, num_classes=num_classes)

    def stream() -> StreamEngine:
        return StreamEngine(budget=options.budget)

    everything = [
        Contender(name=REFERENCE, mixer=blind, engine=BatchEngine(), labelled=False),
        Contender(name="mixup, labelled by the teacher", mixer=blind, engine=BatchEngine()),
        Contender(name="stream, fast", mixer=fast, engine=stream()),
        Contender(name="stream, paper's solver", mixer=paper, engine=stream()),
        Contender(name="8 uses, fast", mixer=fast, engine=StreamEngine(reuse=8)),
        Contender(name="batch, fast", mixer=fast, engine=BatchEngine()),
        Contender(name="batch, paper's solver", mixer=paper, engine=BatchEngine()),
    ]
    return [contender for contender in everything if contender.name in (REFERENCE, *options.contenders)]
