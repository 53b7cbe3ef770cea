"""Measure a training step with mixes: `python -m supermix_pl.experiments.bench.step --help`.

A student is trained on batches that are extended by mixes; the stream engine stands beside MixUp and the batch engine,
step by step in turns in one run. Prints a table and writes it, with all single measurements, to step_<device>.md and
step_<device>.json.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from supermix_pl import FrozenTeacher
from supermix_pl.arguments import check_not_negative, check_positive
from supermix_pl.experiments import networks
from supermix_pl.experiments.bench import arguments, output, provenance
from supermix_pl.experiments.bench.step_training import NAMES, REFERENCE, Timing, Training, contenders
from supermix_pl.experiments.bench.tables import Table, Target, median_cell

PROGRAM = "supermix_pl.experiments.bench.step"
_SLOW_SHARE = 8  # the batch engine takes this part of the steps


def measure(
    options: argparse.Namespace,
    student: nn.Module,
    teacher: FrozenTeacher,
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    num_classes: int,
) -> dict[str, Timing]:
    """Time all contenders in turns."""
    trainings = [
        Training(contender, student, teacher, low_precision=options.precision == "bf16")
        for contender in contenders(options, num_classes)
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
                period = training.contender.engine.period
                count = -(-count // period) * period
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
        if name.startswith("stream"):  # those with the budget
            targets = Target(what="ratio", limit=1 + options.budget).verdict(median(ratios))
            if "fast" in name:
                targets += "; " + Target(what="fresh", limit=options.batch_size / 8, at_least=True).verdict(fresh)
        plan = timing.plan or {}
        rows.append(
            (
                name,
                median_cell([1000 * seconds for seconds in timing.steps()], 0),
                median_cell([1000 * mean(block) for block in timing.mixing], 0),
                median_cell(ratios, 3),
                f"{fresh:.1f}",
                f"{100 * sum(timing.solved) / len(timing.solved):.1f} %" if name != REFERENCE else "-",
                f"{plan['slots']} x {plan['rounds']} / {plan['every_n_steps']}" if plan else "-",
                targets,
            )
        )
    steps = f"{options.batch_size} natural images and as many mixes. In turns, {options.steps} steps or more a block"
    notes = (
        (
            f"A step: mixing, then forward, backward and update of the student on {steps}; median of the blocks' means "
            f"(least - most), ratios within a block to {REFERENCE}, whose mixes no teacher labels."
        ),
        "New mixes: a step's, capped ones too. Solved: share of the mixes that the student was given.",
    )
    columns = ("step", "ms", "of it mixing", "ratio", "new mixes", "solved", "slots x rounds / steps", "target")
    return Table(title="Training step with mixes", columns=columns, rows=rows, notes=notes)


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    command_line = sys.argv[1:] if command_line is None else command_line
    options = parse(command_line)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    try:
        teacher, images, labels = arguments.subject(options).open_labelled(device)
        folder = Path(options.output)
        folder.mkdir(parents=True, exist_ok=True)
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"{PROGRAM}: error: {error}")
    origin = provenance.collect(PROGRAM, command_line, seeds=[0], device=device)
    timings = run(options, teacher, images, labels)
    output.publish(
        folder / f"step_{device.type}_{options.precision}",
        title="Training step",
        origin=origin,
        settings=output.settings(options, "output"),
        remark=f"Teacher {options.network}, student {options.student or options.network}.",
        tables=[table(timings, options)],
        content={"timings": {name: asdict(timing) for name, timing in timings.items()}},
    )


def run(
    options: argparse.Namespace, teacher: FrozenTeacher, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]
) -> dict[str, Timing]:
    """Build a student and time its steps.

    Args:
        options: From `parse`.
        teacher: On the device.
        images: In whole batches, or a rest is left out.
        labels: Their classes.
    """
    device = torch.device(options.device)
    num_classes = _num_classes(teacher, images[:1].to(device))
    torch.manual_seed(0)
    student = getattr(networks, options.student or options.network)(num_classes=num_classes).to(device)
    if options.precision == "bf16":
        student = student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        images = images.contiguous(memory_format=torch.channels_last)
        teacher = FrozenTeacher(teacher.module, dtype="bfloat16", channels_last=True)
    pairs = zip(images.split(options.batch_size), labels.split(options.batch_size), strict=True)
    batches = [(one.to(device), two.to(device)) for one, two in pairs if len(one) == options.batch_size]
    return measure(options, student, teacher, batches, num_classes=num_classes)


def _num_classes(teacher: FrozenTeacher, image: Tensor) -> int:
    with torch.no_grad():
        return teacher(image).shape[1]


def parse(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line; end the program with a message where it makes no sense."""
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
    add("--sigma", type=float, default=1.0, help="of the paper's solver; SuperMix.fast has its own")
    add("--precision", choices=("fp32", "bf16"), default="bf16", help="of student and teacher; bf16 with channels_last")
    add("--steps", type=int, default=8, help="in a block")
    add("--blocks", type=int, default=7, help="how often each has its turn")
    add("--contenders", nargs="+", default=list(NAMES[:3]), choices=NAMES, metavar="NAME", help="; ".join(NAMES))
    parser.set_defaults(split="train")
    options = parser.parse_args(command_line)
    try:
        arguments.check_subject(options)
        for name in ("batch_size", "steps", "blocks", "mask_size"):
            arguments.check_least(options, name, 1)
        check_positive("--budget", options.budget)
        check_not_negative("--sigma", options.sigma)
        known = arguments.networks_by_name()
        if (options.student or options.network) not in known:
            raise ValueError(f"expected --student out of {', '.join(known)}, got {options.student or options.network}")
        if options.images < options.batch_size:
            raise ValueError(f"expected --images >= --batch-size, got {options.images} and {options.batch_size}")
    except ValueError as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    main()
