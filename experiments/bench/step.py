"""A training step with mixes beside one with MixUp: see conf/bench/step.yaml."""

import copy
import inspect
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from functools import partial
from statistics import mean
from typing import Any

import torch
from hydra.utils import instantiate
from jaxtyping import Float, Int
from omegaconf import DictConfig
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixUp, SuperMix
from supermix_pl.arguments import check_at_least
from supermix_pl.engine import BatchEngine, Engine, Run, StreamEngine
from supermix_pl.experiments.bench.passes import synchronize
from supermix_pl.experiments.bench.program import Result, Settings, named, run, tracked
from supermix_pl.experiments.networks.classifier import compile_in_place
from supermix_pl.experiments.opening import open_subject
from supermix_pl.experiments.shared.render import Notes, Row, Table
from supermix_pl.experiments.shared.runs.identity import target
from supermix_pl.experiments.shared.statistics import median_cell
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.losses import distillation_loss
from supermix_pl.mixing import MixedBatch, Mixer
from supermix_pl.trainer.rewriting import BatchRewriter
from supermix_pl.trainer.stopwatch import Stopwatch
from supermix_pl.transforms import View

REFERENCE, RECOMMENDED, BATCH = "MixUp", "stream", "batch"
COLUMNS = ("step", "ms", "of it mixing", "host ms", "ratio", "forwards / mix", "backwards / mix", "holds %")
NOTES = (
    (
        "A step: the teacher's pass of the natural images, mixing, then forward, backward and update of the student on "
        "all rows, by the distillation loss. Median of the blocks' means (least - most); ratios within a block to "
        "MixUp, a stream whose mixes the teacher labels too. Host: mixing as the program's own thread sees it where "
        "the device is idle before, a step after each block."
    ),
    (
        "Forwards, backwards: the teacher's a mix that is shown, those of the natural images left out, which all have. "
        "Holds: share of the shown mixes, among them those of young sets."
    ),
)
_OF_THE_ENGINE = set(inspect.signature(StreamEngine).parameters)
_STEPS_TO_WARM = 24  # a budget is planned by then, and sets leave the slots
_SLOW_STEPS_TO_WARM = 2
_SLOW_SHARE = 4  # the batch engine takes this part of the steps

Setups = Mapping[str, tuple[Mixer, Engine]]
"""What is put into the batches, by name."""


@dataclass(frozen=True, kw_only=True)
class StepSettings(Settings):
    """See conf/bench/step.yaml."""

    LEAST = {"batch_sizes": 2, "steps": 1, "blocks": 1, "compiled": 0}

    images: int
    batch_sizes: list[int]
    streams: list[dict[str, Any]]
    batch_engine: bool
    compiled: list[bool]
    steps: int
    blocks: int

    def check(self) -> None:
        check_at_least("bench.images", self.images, max(self.batch_sizes))
        setups(self.streams, 2)


def measure(config: DictConfig, settings: StepSettings) -> Result:
    """Time the steps of a student, batch size by batch size, compiled or not."""
    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError("expected a GPU, got a machine or a build of torch without one; give trainer.accelerator=cpu")
    precision = str(config.trainer.precision)
    cases = {
        f"{size}, compiled" if compiled else str(size): _measure_case(config, settings, size, compiled=compiled)
        for size, compiled in itertools.product(settings.batch_sizes, settings.compiled)
    }
    subject = next(iter(cases.values()))[0]
    timings = {name: found for name, (_, found) in cases.items()}
    tables = [
        Table(title=f"Natural images, and as many mixes: {name}", columns=COLUMNS, rows=rows(found))
        for name, found in timings.items()
    ]
    return Result(
        name=f"{subject.data}_{subject.network}_{precision}",
        title=f"Training step with mixes: {subject.title}",
        remark=f"Student {target(dict(config.network))}, {precision}, teacher in {config.teacher.get('dtype')}.",
        tables=[*tables, Notes(lines=NOTES)],
        content={
            "timings": {
                name: {setup: asdict(timing) for setup, timing in found.items()} for name, found in timings.items()
            }
        },
        seeds=[config.seed],
        device=subject.images.device,
    )


def _measure_case(
    config: DictConfig, settings: StepSettings, size: int, *, compiled: bool
) -> tuple[Subject, dict[str, "Timing"]]:
    config.teacher.compile = compiled
    subject = open_subject(config, num_images=settings.images, split="train")
    torch.manual_seed(config.seed)
    student = instantiate(config.network, num_classes=subject.teacher.num_classes).to(subject.images.device)
    return subject, time_steps(
        setups(settings.streams, subject.supermix.k, with_batch=settings.batch_engine),
        student.to(memory_format=torch.channels_last) if config.channels_last else student,
        subject.teacher,
        [batch for batch in subject.batches(size) if len(batch[0]) == size],
        subject.view,
        steps=settings.steps,
        blocks=settings.blocks,
        low_precision=str(config.trainer.precision).startswith("bf16"),
    )


def setups(streams: Sequence[Mapping[str, Any]], k: int, *, with_batch: bool = True) -> Setups:
    """Return what is compared, the reference first: streams of SuperMix.fast with changes, the batch engine."""
    found: dict[str, tuple[Mixer, Engine]] = {REFERENCE: (MixUp(k=k), StreamEngine())}
    for changes in streams:
        engine = {name: value for name, value in changes.items() if name in _OF_THE_ENGINE}
        mixer = {name: value for name, value in changes.items() if name not in _OF_THE_ENGINE}
        name = ", ".join(filter(None, [RECOMMENDED, named(changes)]))
        found[name] = SuperMix.fast(k=k, **mixer), StreamEngine(**engine)
    return found | ({BATCH: (SuperMix.fast(k=k), BatchEngine())} if with_batch else {})


def time_steps(
    chosen: Setups,
    student: nn.Module,
    teacher: FrozenTeacher,
    batches: Sequence[tuple[Tensor, Tensor]],
    view: View,
    *,
    steps: int,
    blocks: int,
    low_precision: bool,
) -> dict[str, "Timing"]:
    """Time all setups in turns."""
    trainings = {
        name: Training(*each, student, teacher, view, low_precision=low_precision) for name, each in chosen.items()
    }
    in_turn = list(trainings.values())
    for training in tracked(in_turn, "warm-up"):
        training.warm_up(batches)
    for block in tracked(range(blocks), "blocks"):
        turn = block % len(in_turn)
        for training in (*in_turn[turn:], *in_turn[:turn]):
            training.block(batches, block, steps)
            training.time_host(*batches[block % len(batches)])
    return {name: training.timing for name, training in trainings.items()}


def rows(timings: Mapping[str, "Timing"]) -> list[Row]:
    """Lay the setups out beside the reference, as `COLUMNS` has it."""
    reference = timings[REFERENCE]
    return [
        (
            name,
            median_cell(timing.seconds, 1, 1000),
            median_cell(timing.mixing, 1, 1000),
            median_cell(timing.host, 1, 1000),
            median_cell(timing.ratios(reference), 3),
            f"{mean(timing.forwards):.2f}",
            f"{mean(timing.backwards):.2f}",
            f"{100 * mean(timing.holds):.0f}" if timing.holds else "-",
        )
        for name, timing in timings.items()
    ]


@dataclass(kw_only=True)
class Timing:
    """A setup's steps."""

    seconds: list[float] = field(default_factory=list)  # of a step, the mean of each block
    mixing: list[float] = field(default_factory=list)  # of the seconds, those of mixing
    host: list[float] = field(default_factory=list)  # of mixing, the seconds of the program's own thread
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

    def ratios(self, reference: "Timing") -> list[float]:
        """Return the steps over those of another setup, block by block."""
        return [one / two for one, two in zip(self.seconds, reference.seconds, strict=True)]


@dataclass(eq=False)
class Training:
    """A student that is distilled on extended batches: the teacher's logits for every row, no second pass.

    It is a copy, compiled if the teacher's passes are.
    """

    mixer: Mixer
    engine: Engine
    student: nn.Module
    teacher: FrozenTeacher
    view: View
    _: KW_ONLY
    low_precision: bool

    def __post_init__(self) -> None:
        self.timing = Timing()
        self.student = copy.deepcopy(self.student).train()
        self._optimizer = torch.optim.SGD(self.student.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        self._number, self._host_seconds = 0, 0.0
        self._device = next(self.student.parameters()).device
        if self.teacher.compile:
            compile_in_place(self.student, on_gpu=self._device.type == "cuda")
        self._stopwatch = Stopwatch(self._device)
        self.engine.begin(Run(training_seconds=self._stopwatch.training_seconds))
        self._rewriter = BatchRewriter(
            mixer=self.mixer,
            engine=self.engine,
            mode="extend",
            targets="teacher",
            input_key=0,
            target_key=1,
            mixed_transform=self.view,
            label_natural=True,
        )

    @property
    def is_slow(self) -> bool:
        """Whether sets are solved to their end in every step."""
        return self.engine.solves_now

    def step(self, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> MixedBatch:
        """Mix a batch and train on it; the device may still be at it."""
        self._stopwatch.start()
        start = time.perf_counter()
        rewritten = self._rewriter.rewrite((images, labels), self.teacher, stream=(0, self._number))
        self._host_seconds = time.perf_counter() - start
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
        start = time.perf_counter()
        mixes = [self.step(*batches[(first + number) % len(batches)]) for number in range(steps)]
        synchronize(self._device)
        self.timing.seconds.append((time.perf_counter() - start) / steps)
        recent = self._stopwatch.recent(steps)
        assert recent is not None
        self.timing.mixing.append(recent[0])
        labels = 0 if self.engine.takes_natural_logits else len(batches[0][0])
        for mix in mixes:
            self.timing.count(mix, labels)

    def time_host(self, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> None:
        """Time how long the host is at mixing a batch, for a device that waits for it."""
        synchronize(self._device)
        self.step(images, labels)
        self.timing.host.append(self._host_seconds)

    def _train(self, images: Float[Tensor, "r c h w"], teacher_logits: Float[Tensor, "r n"]) -> None:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.low_precision):
            logits = self.student(images)
        self._optimizer.zero_grad()
        distillation_loss(logits.float(), teacher_logits.float()).backward()
        self._optimizer.step()


main = partial(run, "step", measure)

if __name__ == "__main__":
    main()
