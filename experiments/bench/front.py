"""Measure which mixes hold, and at what cost: `python -m supermix_pl.experiments.bench.front --help`.

Prints tables of the share that holds under fresh views, teacher passes, probability of the set's classes, sharpness of
the masks and saliency kept after some numbers of rounds, one row a setting of the solver. Writes them with all numbers
to NAME_<device>.md and NAME_<device>.json, and as a picture to NAME_<device>.png.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import Progress

from supermix_pl.experiments.bench import front_arguments, front_figure, front_report, output, provenance
from supermix_pl.experiments.bench.front_rows import Row, measure_batch
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
        title="Front: mixes that hold, passes, and what the masks are worth",
        origin=provenance.collect(PROGRAM, command_line, seeds=[options.seed], device=options.device),
        settings=output.settings(options, "case", "mixers", "output", "name"),
        remark=front_report.REMARK,
        tables=front_report.tables(rows, options),
        content=front_report.content(rows, options),
    )


def measure(options: argparse.Namespace, split: str, progress: Progress) -> list[Row]:
    """Run every setting on every batch of a split."""
    device, case = torch.device(options.device), options.case
    subject = replace(case.subject, split=split, num_images=options.first + options.sets)
    teacher, images, labels = subject.open_labelled(device)
    parts = [values[options.first :].to(device).split(options.batch_size) for values in (images, labels)]
    rows = [Row(name=name, split=split, mixer=mixer) for name, mixer in options.mixers.items()]
    task = progress.add_task(split, total=len(rows) * len(parts[0]))
    for number, (batch, classes) in enumerate(zip(*parts, strict=True)):
        given = classes if case.mixer.classes == "labels" else None
        saliency = input_saliency(teacher, batch, given)[1]
        for row in rows:
            progress.update(task, description=f"{split}, k={options.k}: {row.name}")
            measure_batch(
                row,
                teacher,
                batch,
                given,
                saliency,
                seed=(options.seed, number),
                rounds=options.rounds,
                view=case.view,
                views=options.views,
            )
            progress.advance(task)
    return rows


if __name__ == "__main__":
    main()
