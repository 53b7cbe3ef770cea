"""Measure a training step with mixes: `python -m supermix_pl.experiments.bench.step --help`.

A student is trained on batches that are extended by mixes; the stream engine stands beside MixUp and the batch engine,
step by step in turns in one run. Prints a table and writes it, with all single measurements, to step_<device>.md and
step_<device>.json.
"""

import argparse
import copy
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixUp, SuperMix
from supermix_pl.engine import BatchEngine, Engine, Run, StreamEngine
from supermix_pl.experiments import networks
from supermix_pl.experiments.bench import arguments, output, provenance
from supermix_pl.experiments.bench.passes import timed
from supermix_pl.experiments.bench.tables import Table, Target, median_cell
from supermix_pl.losses import soft_cross_entropy
from supermix_pl.mixing import Mixer
from supermix_pl.rewriting import BatchRewriter
from supermix_pl.transforms import RandomCropFlip

PROGRAM = "supermix_pl.experiments.bench.step"
REFERENCE = "mixup"
_MOST_STEPS_TO_WARM = 200
_SLOW_SHARE = 8  # the batch engine takes this part of the steps


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
        """Give the median step of every block."""
        return [
            median([a + b for a, b in zip(mixing, training, strict=True)])
            for mixing, training in zip(self.mixing, self.training, strict=True)
        ]


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
            for number in range(30):  # until the sets in its slots end at their steady rate
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


def contenders(options: argparse.Namespace) -> list[Contender]:
    """List what is compared."""
    size = {"mask_size": options.mask_size, "sigma": options.sigma}
    paper, fast = SuperMix(k=options.k, **size), SuperMix.fast(k=options.k, **size)
    blind = replace(MixUp(k=options.k), num_classes=options.num_classes)
    everything = [
        Contender(name=REFERENCE, mixer=blind, engine=BatchEngine(), labelled=False),
        Contender(name="mixup, labelled by the teacher", mixer=blind, engine=BatchEngine()),
        Contender(
            name=f"stream, fast, budget {options.budget:g}", mixer=fast, engine=StreamEngine(budget=options.budget)
        ),
        Contender(
            name=f"stream, paper's solver, budget {options.budget:g}",
            mixer=paper,
            engine=StreamEngine(budget=options.budget),
        ),
        Contender(name="batch, fast", mixer=fast, engine=BatchEngine()),
        Contender(name="batch, paper's solver", mixer=paper, engine=BatchEngine()),
    ]
    return everything[: None if options.batch_engine else 4]


def measure(
    options: argparse.Namespace,
    student: nn.Module,
    teacher: FrozenTeacher,
    batches: Sequence[tuple[Tensor, Tensor]],
) -> dict[str, Timing]:
    """Time all contenders in turns."""
    trainings = [
        Training(contender, student, teacher, low_precision=options.precision == "bf16")
        for contender in contenders(options)
    ]
    with output.progress_bar() as progress:
        task = progress.add_task("warm-up", total=len(trainings) * (1 + options.blocks))
        for training in trainings:
            training.warm_up(batches)
            progress.advance(task)
        for block in range(options.blocks):
            for training in trainings:
                progress.update(task, description=training.contender.name)
                slow = training.contender.name.startswith("batch")
                count = max(1, options.steps // _SLOW_SHARE) if slow else options.steps
                taken = [training.step(*batches[(block + number) % len(batches)]) for number in range(count)]
                training.timing.mixing.append([one for one, _ in taken])
                training.timing.training.append([two for _, two in taken])
                progress.advance(task)
    return {training.contender.name: training.timing for training in trainings}


def table(timings: dict[str, Timing], options: argparse.Namespace) -> Table:
    """Lay the contenders out beside the reference."""
    reference = timings[REFERENCE].steps()
    rows = []
    for name, timing in timings.items():
        ratios = [one / two for one, two in zip(timing.steps(), reference, strict=True)]
        fresh = sum(timing.fresh) / len(timing.fresh)
        targets = ""
        if name.startswith("stream"):
            targets = Target(what="ratio", limit=1 + options.budget).verdict(median(ratios))
            if "fast" in name:
                targets += "; " + Target(what="fresh", limit=options.batch_size / 8, at_least=True).verdict(fresh)
        plan = timing.plan or {}
        rows.append(
            (
                name,
                median_cell([1000 * seconds for seconds in timing.steps()], 0),
                median_cell([1000 * median(block) for block in timing.mixing], 0),
                median_cell(ratios, 3),
                f"{fresh:.1f}",
                f"{100 * sum(timing.solved) / len(timing.solved):.1f} %" if name != REFERENCE else "-",
                f"{plan['slots']} x {plan['rounds']}" if plan else "-",
                targets,
            )
        )
    steps = (
        f"{options.batch_size} natural images and as many mixes. Contenders take turns, {options.steps} steps a block"
    )
    notes = (
        (
            f"A step: mixing, then forward, backward and update of the student on {steps}; median of the blocks "
            f"(least - most), ratios within a block to {REFERENCE}, whose mixes no teacher labels."
        ),
        "New mixes: a step's, capped ones too. Solved: share of the mixes that the student was given.",
    )
    columns = ("step", "ms", "of it mixing", "ratio", "new mixes", "solved", "slots x rounds", "target")
    return Table(title="Training step with mixes", columns=columns, rows=rows, notes=notes)


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    command_line = sys.argv[1:] if command_line is None else command_line
    options = _parse(command_line)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    try:
        teacher, images, labels = arguments.subject(options).open_labelled(device)
        folder = Path(options.output)
        folder.mkdir(parents=True, exist_ok=True)
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"{PROGRAM}: error: {error}")
    options.num_classes = _num_classes(teacher, images[:1].to(device))
    low = options.precision == "bf16"
    torch.manual_seed(0)
    student = getattr(networks, options.student or options.network)(num_classes=options.num_classes).to(device)
    if low:
        student = student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        images = images.contiguous(memory_format=torch.channels_last)
        teacher = FrozenTeacher(teacher.module, dtype="bfloat16", channels_last=True)
    pairs = zip(images.split(options.batch_size), labels.split(options.batch_size), strict=True)
    batches = [(one.to(device), two.to(device)) for one, two in pairs if len(one) == options.batch_size]
    origin = provenance.collect(PROGRAM, command_line, seeds=[0], device=device)
    timings = measure(options, student, teacher, batches)
    output.publish(
        folder / f"step_{device.type}_{options.precision}",
        title="Training step",
        origin=origin,
        settings=output.settings(options, "output"),
        remark=f"Teacher {options.network}, student {options.student or options.network}.",
        tables=[table(timings, options)],
        content={"timings": {name: asdict(timing) for name, timing in timings.items()}},
    )


def _num_classes(teacher: FrozenTeacher, image: Tensor) -> int:
    with torch.no_grad():
        return teacher(image).shape[1]


def _parse(command_line: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}",
        description="Measure a training step with mixes, of the stream engine beside MixUp.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    arguments.add_subject(parser)
    add = parser.add_argument
    add("--student", help="name in experiments.networks; the teacher's if not given")
    add("--batch-size", type=int, default=128, help="natural images in a step")
    add("--budget", type=float, default=0.25, help="of the stream")
    add("--mask-size", type=int, default=8, help="of the masks")
    add("--sigma", type=float, default=1.0, help="of the updates")
    add("--precision", choices=("fp32", "bf16"), default="bf16", help="of student and teacher; bf16 with channels_last")
    add("--steps", type=int, default=8, help="in a block")
    add("--blocks", type=int, default=7, help="how often each has its turn")
    add("--batch-engine", action="store_true", help="measure the batch engine too")
    parser.set_defaults(split="train")
    options = parser.parse_args(command_line)
    try:
        arguments.check_subject(options)
        for name in ("batch_size", "steps", "blocks"):
            arguments.check_least(options, name, 1)
        if options.images < options.batch_size:
            raise ValueError(f"expected --images >= --batch-size, got {options.images} and {options.batch_size}")
    except ValueError as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    main()
