"""Measure a training step with mixes: `python -m supermix_pl.experiments.bench.step --help`.

A student is distilled on batches that are extended by mixes, with the teacher's logits for every row. Streams of
SuperMix stand beside a stream of MixUp with the same labels, block by block in turns in one run. Prints a table a batch
size and writes them, with all single measurements, to step_<device>_<precision>.md and .json.
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
from supermix_pl.experiments import networks
from supermix_pl.experiments.bench import arguments, output, provenance
from supermix_pl.experiments.bench.step_training import (
    CHEAP,
    RECOMMENDED,
    REFERENCE,
    Contender,
    Timing,
    Training,
    contenders,
    stream,
)
from supermix_pl.experiments.bench.tables import Table, Target, median_cell
from supermix_pl.transforms import View

PROGRAM = "supermix_pl.experiments.bench.step"
GOALS = {
    RECOMMENDED: {"ratio": 1.45, "forwards": 1.5, "backwards": 1.0},
    CHEAP: {"ratio": 1.25, "forwards": 1.0, "backwards": 0.5},
}
"""By changes of the stream: most times the reference's step, and most passes a shown mix."""

_SLOW_SHARE = 4  # the batch engine takes this part of the steps
_NOTES = (
    (
        "A step: the teacher's pass of the natural images, mixing, then forward, backward and update of the student on "
        "all rows, by the distillation loss. Median of the blocks' means (least - most); ratios within a block to "
        f"{REFERENCE}, a stream whose mixes the teacher labels too. CPU ratio: of the time that the process's threads "
        "computed, which says more where other work ran beside."
    ),
    (
        "Forwards, backwards: the teacher's a mix that is shown, those of the natural images left out, which all have. "
        "Holds: share of the shown mixes, among them those of young sets."
    ),
)


def measure(
    chosen: Sequence[Contender],
    student: nn.Module,
    teacher: FrozenTeacher,
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    steps: int,
    blocks: int,
    low_precision: bool,
    view: View | None = None,
) -> dict[str, Timing]:
    """Time all contenders in turns.

    Args:
        chosen: The contenders.
        student: They train copies of it.
        teacher: On the same device.
        batches: Images and labels, one after the other.
        steps: In a block.
        blocks: How often each has its turn.
        low_precision: Whether the student runs in bfloat16.
        view: What the student sees mixes under; None for a crop and a flip.
    """
    trainings = [Training(each, student, teacher, view, low_precision=low_precision) for each in chosen]
    with output.progress_bar() as progress:
        task = progress.add_task("warm-up", total=len(trainings) * (1 + blocks))
        for training in trainings:
            training.warm_up(batches)
            progress.advance(task)
        for block in range(blocks):
            turn = block % len(trainings)
            for training in (*trainings[turn:], *trainings[:turn]):
                progress.update(task, description=training.contender.name)
                count = max(1, steps // _SLOW_SHARE) if training.is_slow else steps
                training.block([batches[(block + number) % len(batches)] for number in range(count)])
                progress.advance(task)
    return {training.contender.name: training.timing for training in trainings}


def table(timings: dict[str, Timing], title: str) -> Table:
    """Lay the contenders out beside the reference."""
    rows = []
    for name, timing in timings.items():
        ratios = timing.ratios(timings[REFERENCE])
        passes = mean(timing.forwards), mean(timing.backwards)
        rows.append(
            (
                name,
                median_cell([1000 * seconds for seconds in timing.seconds], 0),
                median_cell([1000 * seconds for seconds in timing.mixing], 0),
                median_cell(ratios, 3),
                median_cell(timing.ratios(timings[REFERENCE], "cpu"), 3),
                f"{passes[0]:.2f}",
                f"{passes[1]:.2f}",
                f"{100 * mean(timing.holds):.0f}" if timing.holds else "-",
                verdicts(name, median(ratios), *passes),
            )
        )
    columns = ("step", "ms", "of it mixing", "ratio", "CPU ratio", "forwards / mix", "backwards / mix", "holds %")
    columns = (*columns, "goals")
    return Table(title=title, columns=columns, rows=rows, notes=_NOTES)


def verdicts(name: str, ratio: float, forwards: float, backwards: float) -> str:
    """Say which goals of a stream are met; passes are compared to a hundredth."""
    goals = next((goals for changes, goals in GOALS.items() if stream(changes, 2).name == name), {})
    found = {"ratio": ratio, "forwards": round(forwards, 2), "backwards": round(backwards, 2)}
    return "; ".join(Target(what=what, limit=limit).verdict(found[what]) for what, limit in goals.items()) or "-"


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
    timings = {size: run(options, teacher, images, labels, size) for size in options.batch_sizes}
    output.publish(
        folder / f"step_{device.type}_{options.precision}",
        title="Training step with mixes",
        origin=origin,
        settings=output.settings(options, "output"),
        remark=f"Teacher {options.network}, student {options.student}, {options.precision}, channels_last.",
        tables=[table(found, f"{size} natural images and {size} mixes") for size, found in timings.items()],
        content={
            "timings": {
                str(size): {name: asdict(timing) for name, timing in found.items()} for size, found in timings.items()
            }
        },
    )


def run(
    options: argparse.Namespace,
    teacher: FrozenTeacher,
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    batch_size: int,
    view: View | None = None,
) -> dict[str, Timing]:
    """Build a student and time its steps.

    Args:
        options: From `parse`.
        teacher: On the device.
        images: In whole batches, or a rest is left out.
        labels: Their classes.
        batch_size: Natural images in a step.
        view: What the student sees mixes under; None for a crop and a flip.
    """
    device, low = torch.device(options.device), options.precision == "bf16"
    with torch.no_grad():
        num_classes = teacher(images[:1].to(device)).shape[1]
    torch.manual_seed(0)
    student = getattr(networks, options.student)(num_classes=num_classes).to(device)
    student = student.to(memory_format=torch.channels_last)
    teacher = FrozenTeacher(
        teacher.module, dtype="bfloat16" if low else None, channels_last=True, compile=options.compile
    )
    images = images.contiguous(memory_format=torch.channels_last)
    pairs = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    batches = [(one.to(device), two.to(device)) for one, two in pairs if len(one) == batch_size]
    chosen = contenders(options.streams, options.k, with_batch=options.batch_engine)
    length = {"steps": options.steps, "blocks": options.blocks}
    return measure(chosen, student, teacher, batches, **length, low_precision=low, view=view)


def parse(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line; end the program with a message where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}",
        description="Measure a training step with mixes: streams of SuperMix beside one of MixUp with the same labels.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    arguments.add_subject(parser)
    add = parser.add_argument
    add("--student", default="resnet20", help="name in experiments.networks")
    add("--batch-sizes", type=int, nargs="+", default=[64, 128], help="natural images in a step, and as many mixes")
    add(
        "--streams",
        nargs="*",
        default=list(GOALS),
        metavar="CHANGES",
        help="of SuperMix.fast and StreamEngine, each a row, such as 'max_steps=6, reuse=24'; '' is the recommendation",
    )
    add("--no-batch-engine", dest="batch_engine", action="store_false", help="leave the batch engine out")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: bf16 where the device has it")
    add("--compile", action="store_true", help="compile the teacher's passes")
    add("--steps", type=int, default=8, help="in a block")
    add("--blocks", type=int, default=9, help="how often each has its turn")
    parser.set_defaults(split="train", images=2048)
    options = parser.parse_args(command_line)
    try:
        arguments.check_subject(options)
        for name in ("steps", "blocks"):
            arguments.check_least(options, name, 1)
        if min(options.batch_sizes) < 2:
            raise ValueError(f"expected --batch-sizes >= 2, got {min(options.batch_sizes)}")
        known = arguments.networks_by_name()
        if options.student not in known:
            raise ValueError(f"expected --student out of {', '.join(known)}, got {options.student}")
        if options.images < max(options.batch_sizes):
            raise ValueError(f"expected --images >= --batch-sizes, got {options.images} and {max(options.batch_sizes)}")
        contenders(options.streams, options.k)
    except (ValueError, TypeError) as error:
        parser.error(str(error))
    if options.precision == "auto":
        options.precision = "bf16" if has_bf16(torch.device(options.device)) else "fp32"
    return options


def has_bf16(device: torch.device) -> bool:
    """Tell whether a device computes in bfloat16 itself; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16"))


if __name__ == "__main__":
    main()
