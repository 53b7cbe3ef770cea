"""Measure what solvers cost and what their masks are worth: `python -m supermix_pl.experiments.bench.front --help`.

Prints a table of sets solved, teacher passes, sharpness of the masks and saliency kept, and writes it with all numbers
to NAME_<device>.md and NAME_<device>.json, and as a picture to NAME_<device>.png.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from rich.progress import Progress
from torch import Tensor

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench import front_arguments, front_figure, front_report, output, provenance
from supermix_pl.experiments.bench.curve import mix_batch
from supermix_pl.experiments.bench.duel import Batch
from supermix_pl.experiments.bench.front_rows import Row, worth
from supermix_pl.experiments.bench.front_solvers import solvers
from supermix_pl.solver.saliency import input_saliency

PROGRAM = "supermix_pl.experiments.bench.front"


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure, print, write and draw."""
    command_line = sys.argv[1:] if command_line is None else command_line
    options = front_arguments.parse(command_line, PROGRAM)
    torch.set_num_threads(options.threads)
    folder = Path(options.output)
    with output.progress_bar() as progress:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            rows = [row for split in options.splits for row in measure(options, split, progress)]
        except (ValueError, TypeError, OSError, ImportError) as error:
            sys.exit(f"{PROGRAM}: error: {error}")
    stem = folder / f"{options.name}_{options.device}"
    front_figure.draw(rows, options, stem.with_name(stem.name + ".png"))
    output.publish(
        stem,
        title="Front: passes, sets solved, sharpness, saliency kept",
        origin=provenance.collect(PROGRAM, command_line, seeds=[options.seed], device=options.device),
        settings=output.settings(options, "case", "output", "name"),
        remark=front_report.REMARK,
        tables=front_report.tables(rows, options.case.dataset, options.caps),
        content=front_report.content(rows, options.case.dataset, options.caps),
    )


def measure(options: argparse.Namespace, split: str, progress: Progress) -> list[Row]:
    """Run every solver on every batch of a split, in turn, each first as often as the others."""
    device = torch.device(options.device)
    subject = replace(options.case.subject, split=split, num_images=options.first + options.sets)
    teacher, images, labels = subject.open_labelled(device)
    parts = [values[options.first :].to(device).split(options.batch_size) for values in (images, labels)]
    chosen = solvers(replace(options.case.mixer, max_steps=options.caps[-1]))
    rows = [Row(name=name, split=split, mixer=chosen[name]) for name in options.solvers]
    first = (parts[0][0], parts[1][0])
    mix_batch(replace(options.case.mixer, max_steps=1), teacher, *first, seed=(options.seed,))  # sets the libraries up
    task = progress.add_task(split, total=len(rows) * len(parts[0]))
    for number, batch in enumerate(zip(*parts, strict=True)):
        saliency = _saliency(teacher, batch, options.case.mixer)
        turn = number % len(rows)
        for row in (*rows[turn:], *rows[:turn]):
            progress.update(task, description=f"{split}, k={options.k}: {row.name}")
            run, mix = mix_batch(row.mixer, teacher, *batch, seed=(options.seed, number))
            row.runs.append(run)
            row.worths.append(worth(mix, saliency))
            progress.advance(task)
    return rows


def _saliency(teacher: FrozenTeacher, batch: Batch, mixer: SuperMix) -> Float[Tensor, "b h w"]:
    images, labels = batch
    return input_saliency(teacher, images, labels if mixer.classes == "labels" else None)[1]


if __name__ == "__main__":
    main()
