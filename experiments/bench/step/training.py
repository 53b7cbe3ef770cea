"""A student that is distilled on batches with mixes, a step at a time."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from supermix_pl import FrozenTeacher
from supermix_pl.engine import Engine, Run
from supermix_pl.experiments.bench.passes import synchronize
from supermix_pl.experiments.networks.compiling import compile_in_place
from supermix_pl.losses import distillation_loss
from supermix_pl.mixing import MixedBatch, Mixer
from supermix_pl.trainer.rewriting import BatchRewriter
from supermix_pl.trainer.stopwatch import Stopwatch
from supermix_pl.transforms import View

_STEPS_TO_WARM = 24  # a budget is planned by then, and sets leave the slots
_SLOW_STEPS_TO_WARM = 2
_SLOW_SHARE = 4  # the batch engine takes this part of the steps


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What is put into the batches."""

    name: str
    mixer: Mixer
    engine: Engine


@dataclass(kw_only=True)
class Timing:
    """A contender's steps."""

    seconds: list[float] = field(default_factory=list)  # of a step, the mean of each block
    # of the threads of this process, likewise: less is lost to what else the machine does
    cpu: list[float] = field(default_factory=list)
    mixing: list[float] = field(default_factory=list)  # of the seconds, those of mixing
    # teacher forwards a mix that was shown, of every step, beside those that label the natural images
    forwards: list[float] = field(default_factory=list)
    backwards: list[float] = field(default_factory=list)  # input gradients a mix that was shown
    holds: list[float] = field(default_factory=list)  # share of the shown mixes that hold

    def count(self, mix: MixedBatch, labels: int) -> None:
        """Take in a step's mixes."""
        self.forwards.append((mix.teacher_forwards - labels) / len(mix))
        self.backwards.append(mix.teacher_backwards / len(mix))
        if mix.holds is not None:
            self.holds.append(float(mix.holds.float().mean()))

    def ratios(self, reference: "Timing", clock: Literal["seconds", "cpu"] = "seconds") -> list[float]:
        """Return the steps over those of another contender, block by block."""
        return [one / two for one, two in zip(getattr(self, clock), getattr(reference, clock), strict=True)]


class Training:
    """A student that is distilled on extended batches: the teacher's logits for every row, no second pass.

    It is compiled if the teacher's passes are.
    """

    def __init__(
        self, contender: Contender, student: nn.Module, teacher: FrozenTeacher, view: View, *, low_precision: bool
    ) -> None:
        self.contender = contender
        self.timing = Timing()
        self.student = copy.deepcopy(student).train()
        self._optimizer = torch.optim.SGD(self.student.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        self._teacher = teacher
        self._low_precision = low_precision
        self._number = 0
        self._device = next(student.parameters()).device
        if teacher.compile:
            compile_in_place(self.student, on_gpu=self._device.type == "cuda")
        self._stopwatch = Stopwatch(self._device)
        contender.engine.begin(Run(training_seconds=self._stopwatch.training_seconds))
        self._rewriter = BatchRewriter(
            mixer=contender.mixer,
            engine=contender.engine,
            mode="extend",
            targets="teacher",
            input_key=0,
            target_key=1,
            mixed_transform=view,
            label_natural=True,
        )

    @property
    def is_slow(self) -> bool:
        """Whether sets are solved to their end in every step."""
        return self.contender.engine.solves_now

    def step(self, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> MixedBatch:
        """Mix a batch and train on it; the device may still be at it."""
        self._stopwatch.start()
        rewritten = self._rewriter.rewrite((images, labels), self._teacher, stream=(0, self._number))
        self._stopwatch.mixed()
        assert rewritten.mix is not None
        assert rewritten.teacher_logits is not None
        self._stopwatch.trained()
        self._train(rewritten.batch[0], rewritten.teacher_logits)
        self._stopwatch.trained()
        self._number += 1
        return rewritten.mix

    def warm_up(self, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Run until a stream has planned its work and its sets leave the slots."""
        for number in range(_SLOW_STEPS_TO_WARM if self.is_slow else _STEPS_TO_WARM):
            self.step(*batches[number % len(batches)])

    def block(self, batches: Sequence[tuple[Tensor, Tensor]], first: int, steps: int) -> None:
        """Time some steps from a batch on, fewer slow ones, and count their passes afterwards."""
        steps = max(1, steps // _SLOW_SHARE) if self.is_slow else steps
        synchronize(self._device)
        start, worked = time.perf_counter(), time.process_time()
        mixes = [self.step(*batches[(first + number) % len(batches)]) for number in range(steps)]
        synchronize(self._device)
        self.timing.seconds.append((time.perf_counter() - start) / steps)
        self.timing.cpu.append((time.process_time() - worked) / steps)
        recent = self._stopwatch.recent(steps)
        assert recent is not None
        self.timing.mixing.append(recent[0])
        labels = 0 if self.contender.engine.takes_natural_logits else len(batches[0][0])
        for mix in mixes:
            self.timing.count(mix, labels)

    def _train(self, images: Float[Tensor, "r c h w"], teacher_logits: Float[Tensor, "r n"]) -> None:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self._low_precision):
            logits = self.student(images)
        self._optimizer.zero_grad()
        distillation_loss(logits.float(), teacher_logits.float()).backward()
        self._optimizer.step()
