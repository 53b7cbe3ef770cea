"""Measure how passes, time and memory grow: `python -m supermix_pl.experiments.bench.scaling --help`.

The paper's solver and SuperMix.fast against sources in a set, size of the images, size of the masks and size of the
batch, one at a time. Writes scaling_<device>.md, .json and .png.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from supermix_pl.experiments.bench import memory, output, provenance, scaling_arguments, scaling_figure, scaling_report
from supermix_pl.experiments.bench.acceptance import run_trial
from supermix_pl.experiments.bench.scaling_report import Measured, Measurements
from supermix_pl.experiments.bench.scaling_settings import Setting

PROGRAM = "supermix_pl.experiments.bench.scaling"
MEMORY_STEPS = 2
"""Of the solver whose peak is measured: batches only shrink, so it is in the first rounds."""


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure, print, write and draw."""
    command_line = sys.argv[1:] if command_line is None else command_line
    options = scaling_arguments.parse(command_line, PROGRAM)
    torch.set_num_threads(options.threads)
    device, folder = torch.device(options.device), Path(options.output)
    origin = provenance.collect(PROGRAM, command_line, seeds=options.seeds, device=device)
    settings = list(dict.fromkeys(point.setting for point in options.points))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with output.progress_bar() as progress:
            solvers = sum(len(setting.solvers()) for setting in settings)
            task = progress.add_task("peak memory", total=solvers * (1 + len(options.seeds)))

            def advance(what: str) -> None:
                progress.update(task, advance=1, description=what)

            found = measure(settings, options.seeds, device, advance)
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"{PROGRAM}: error: {error}")
    stem = folder / f"scaling_{device.type}"
    rows = scaling_report.rows(options.points, found)
    scaling_figure.draw(rows, stem.with_name(stem.name + ".png"))
    output.publish(
        stem,
        title="Scaling of the solvers",
        origin=origin,
        settings=output.settings(options, "points", "output"),
        remark=scaling_report.REMARK,
        tables=scaling_report.tables(rows),
        content={"rows": [row.numbers() for row in rows]},
    )


def measure(
    settings: Sequence[Setting], seeds: Sequence[int], device: torch.device, advance: Callable[[str], None]
) -> Measurements:
    """Measure memory setting by setting, then times in turns: all settings once a seed, in an order that rotates."""
    found: Measurements = {}
    for setting in settings:
        teacher, images = setting.subject.open(device)
        for name, mixer in setting.solvers().items():
            batch = images[: setting.batch_size].to(device, copy=True)
            peak = memory.peak_here(teacher, batch, replace(mixer, max_steps=MEMORY_STEPS), seed=seeds[0])
            found[setting, name] = Measured(peak=peak)
            advance(f"peak memory: {setting.network}")
    opened = {subject: subject.open(device) for subject in dict.fromkeys(setting.subject for setting in settings)}
    for turn, seed in enumerate(seeds):
        start = turn * len(settings) // len(seeds)
        for setting in (*settings[start:], *settings[:start]):
            teacher, images = opened[setting.subject]
            batches = images.to(device).split(setting.batch_size)
            solvers = list(setting.solvers().items())
            for name, mixer in solvers[:: -1 if turn % 2 else 1]:
                replace(mixer, max_steps=1)(teacher, batches[0], seed=seed)  # sets the libraries up
                found[setting, name].trials.append(run_trial(mixer, teacher, batches, seed=seed, view=setting.view))
                advance(f"seed {seed}: {setting.network}, k={mixer.k}, {setting.batch_size} sets, {name}")
    return found


if __name__ == "__main__":
    main()
