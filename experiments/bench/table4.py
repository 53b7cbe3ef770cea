"""Measure Table 4: `python -m supermix_pl.experiments.bench.table4 --help`.

Newton with smooth projection against gradient descent and Newton without, on the same sets: what each costs under the
same limit on steps, and what until the same share of the sets is solved. Writes NAME_<device>.md and .json.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import Progress

from supermix_pl.experiments.bench import contenders, output, provenance, table4_arguments, table4_report
from supermix_pl.experiments.bench.contenders import Grid
from supermix_pl.experiments.bench.curve import run_batch
from supermix_pl.experiments.bench.duel import Batch, Duel, accuracy, measure, tune
from supermix_pl.experiments.bench.table4_cases import Case

PROGRAM = "supermix_pl.experiments.bench.table4"


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    command_line = sys.argv[1:] if command_line is None else command_line
    options = table4_arguments.parse(command_line, PROGRAM)
    torch.set_num_threads(options.threads)
    folder = Path(options.output)
    with output.progress_bar() as progress:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            duels = [(case, compare(case, options, progress)) for case in options.cases]
        except (ValueError, TypeError, OSError, ImportError) as error:
            sys.exit(f"{PROGRAM}: error: {error}")
    output.publish(
        folder / f"{options.name}_{options.device}",
        title="Table 4: cost of the solvers",
        origin=provenance.collect(PROGRAM, command_line, seeds=[options.seed], device=options.device),
        settings=output.settings(options, "cases", "output", "name"),
        remark=table4_report.REMARK,
        tables=table4_report.tables(duels, options.caps, options.levels),
        content=table4_report.content(duels, options.caps, options.levels),
    )


def compare(case: Case, options: argparse.Namespace, progress: Progress) -> Duel:
    """Tune and measure with one teacher."""
    device = torch.device(options.device)
    teacher, images, labels = case.subject.open_labelled(device)
    images, labels = images.to(device), labels.to(device)

    def batches(part: slice) -> list[Batch]:
        return list(zip(*(values[part].split(options.batch_size) for values in (images, labels)), strict=True))

    measured, tuned = batches(slice(options.sets)), batches(slice(options.sets, None))
    names = [name for name in options.solvers if name in contenders.TUNED]
    grid = Grid(rates=options.rates, weights=options.weights)
    tries = sum(len(contenders.candidates(case.mixer, name, grid)) for name in names)
    task = progress.add_task(case.network, total=tries + len(options.solvers) * len(measured))

    def advance(what: str) -> None:
        progress.update(task, advance=1, description=f"{case.network}, k={case.mixer.k}: {what}")

    duel = Duel(teacher_accuracy=accuracy(teacher, measured))
    run_batch(replace(case.mixer, max_steps=1), teacher, *measured[0], seed=(options.seed,))  # sets the libraries up
    if names:
        base = replace(case.mixer, max_steps=options.tune_cap)
        tune(duel, base, names, grid, teacher, tuned, seed=options.seed, advance=advance)
    base = replace(case.mixer, max_steps=options.caps[-1])
    for name in options.solvers:
        mixer = replace(base, update_rule=name) if name in contenders.PAPER else duel.chosen[name]
        if mixer is not None:
            duel.mixers[name] = replace(mixer, max_steps=options.caps[-1])
    measure(duel, teacher, measured, seed=options.seed, advance=advance)
    return duel


if __name__ == "__main__":
    main()
