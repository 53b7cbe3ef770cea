"""Measure the solver for any teacher and data: `python -m supermix_pl.experiments.bench.solver --help`.

Prints three tables (acceptance and passes, wall time, peak memory) and writes them, with all single measurements and
where they come from, to solver_<device>.md and solver_<device>.json.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.progress import Progress
from torch import Tensor

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench import acceptance, arguments, memory, output, provenance, walltime
from supermix_pl.experiments.bench.acceptance import Acceptance
from supermix_pl.experiments.bench.memory import Memory
from supermix_pl.experiments.bench.subject import Subject
from supermix_pl.experiments.bench.tables import Table
from supermix_pl.experiments.bench.walltime import WallTime

PROGRAM = "supermix_pl.experiments.bench.solver"


@dataclasses.dataclass(kw_only=True)
class Results:
    """What was measured; a part that was not asked for is empty."""

    acceptance: list[Acceptance] = dataclasses.field(default_factory=list)
    walltime: list[WallTime] = dataclasses.field(default_factory=list)
    memory: list[Memory] = dataclasses.field(default_factory=list)

    def tables(self) -> list[Table]:
        """Lay out the parts that there are."""
        parts = ((acceptance, self.acceptance), (walltime, self.walltime), (memory, self.memory))
        return [module.table(results) for module, results in parts if results]


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    command_line = sys.argv[1:] if command_line is None else command_line
    options = arguments.parse(command_line, PROGRAM)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    try:
        subject = arguments.subject(options)
        teacher, images = subject.open(device)
        folder = Path(options.output)
        folder.mkdir(parents=True, exist_ok=True)
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"{PROGRAM}: error: {error}")
    origin = provenance.collect(PROGRAM, command_line, seeds=options.seeds, device=device)
    with output.progress_bar() as progress:
        results = measure(options, subject, teacher, images, progress)
    report(options, results, origin, folder / f"solver_{device.type}")


def measure(
    options: argparse.Namespace,
    subject: Subject,
    teacher: FrozenTeacher,
    images: Float[Tensor, "n c h w"],
    progress: Progress,
) -> Results:
    """Run the parts that were asked for, one after the other."""
    results = Results()
    if "acceptance" in options.parts:
        results.acceptance = _acceptance(options, teacher, images, progress)
    if "walltime" in options.parts:
        results.walltime = _walltime(options, teacher, images, progress)
    if "memory" in options.parts:
        results.memory = _memory(options, subject, teacher, images, progress)
    return results


def _acceptance(
    options: argparse.Namespace, teacher: FrozenTeacher, images: Float[Tensor, "n c h w"], progress: Progress
) -> list[Acceptance]:
    task = progress.add_task("acceptance", total=len(options.rows) * len(options.seeds))
    batches = images.to(options.device).split(options.batch_sizes[0])
    SuperMix(k=options.k, max_steps=1)(teacher, batches[0], seed=0)  # the first passes also set the libraries up
    results = []
    for name in options.rows:
        mixer = dataclasses.replace(acceptance.ROWS[name], k=options.k)
        progress.update(task, description=f"acceptance: {name}")
        trials = []
        for seed in options.seeds:
            trials.append(acceptance.run_trial(mixer, teacher, batches, seed=seed))
            progress.advance(task)
        results.append(Acceptance(name=name, mixer=mixer, trials=trials))
    return results


def _walltime(
    options: argparse.Namespace, teacher: FrozenTeacher, images: Float[Tensor, "n c h w"], progress: Progress
) -> list[WallTime]:
    task = progress.add_task("wall time", total=len(options.batch_sizes) * (options.repeats + 1))
    mixer, seed = SuperMix(k=options.k), options.seeds[0]
    results = []
    for size in options.batch_sizes:
        batch = images[:size].to(options.device)
        walltime.warm_up(mixer, teacher, batch, seed=seed)
        progress.advance(task)
        pairs = []
        for _ in range(options.repeats):
            pairs.append(walltime.time_pair(mixer, teacher, batch, seed=seed))
            progress.advance(task)
        results.append(WallTime(batch_size=size, pairs=pairs))
    return results


def _memory(
    options: argparse.Namespace,
    subject: Subject,
    teacher: FrozenTeacher,
    images: Float[Tensor, "n c h w"],
    progress: Progress,
) -> list[Memory]:
    task = progress.add_task("peak memory", total=2 * len(options.batch_sizes))
    seed = options.seeds[0]
    results = []
    for size in options.batch_sizes:
        peaks = []
        for mixer in (SuperMix(k=options.k, max_steps=memory.STEPS), None):
            if torch.device(options.device).type == "cuda":
                peaks.append(memory.cuda_peak(teacher, images[:size].to(options.device), mixer, seed=seed))
            else:
                peaks.append(memory.peak_in_child(subject, size, mixer, threads=options.threads, seed=seed))
            progress.advance(task)
        results.append(Memory(batch_size=size, solver_bytes=peaks[0], bare_bytes=peaks[1]))
    return results


def report(options: argparse.Namespace, results: Results, origin: provenance.Provenance, stem: Path) -> None:
    """Print the tables, and write them as Markdown and the single measurements as JSON."""
    differing = arguments.other_than_published(options)
    remark = f"The targets were set for {arguments.PUBLISHED}"
    remark += f"; this run differs in {', '.join(differing)}." if differing else ", as in this run."
    output.publish(
        stem,
        title="Solver benchmark",
        origin=origin,
        settings=output.settings(options, "output"),
        remark=remark,
        tables=results.tables(),
        content=_numbers(results),
    )


def _numbers(results: Results) -> dict[str, list[dict[str, Any]]]:
    """Give every measurement with what is computed from it."""
    return {
        "acceptance": [
            {
                "row": result.name,
                "mixer": acceptance.shown(result.mixer),
                "trials": [dataclasses.asdict(trial) | trial.numbers() for trial in result.trials],
                "targets": result.verdicts(),
            }
            for result in results.acceptance
        ],
        "walltime": [
            {
                "batch_size": result.batch_size,
                "pairs": [dataclasses.asdict(pair) | {"ratio": pair.ratio} for pair in result.pairs],
                "targets": [walltime.TARGET.verdict(result.median_ratio())],
            }
            for result in results.walltime
        ],
        "memory": [
            dataclasses.asdict(result) | {"ratio": result.ratio, "targets": [memory.TARGET.verdict(result.ratio)]}
            for result in results.memory
        ],
    }


if __name__ == "__main__":
    main()
