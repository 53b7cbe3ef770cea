"""Measure what makes the teacher's passes faster: `python -m supermix_pl.experiments.bench.precision --help`.

Solves the same sets with every configuration, side by side, and prints one table: time, speed-up over float32, sets
solved, and what is left of it when the mixes are tested again in float32. Writes it, with all single measurements and
where they come from, to precision_<device>.md and precision_<device>.json.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.progress import Progress
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.experiments.bench import arguments, output, provenance
from supermix_pl.experiments.bench.acceptance import accepted, different_classes
from supermix_pl.experiments.bench.passes import timed
from supermix_pl.experiments.bench.tables import Summary, Table, Target, mean_cell, median_cell
from supermix_pl.solver.criterion import class_membership, margin

PROGRAM = "supermix_pl.experiments.bench.precision"
BASELINE, CANDIDATE = "fp32", "bf16-folded-channels_last"


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """How the teacher's passes are made.

    Args:
        dtype: Of the passes, as `FrozenTeacher` takes it.
        fold: Whether batch norm is folded.
        channels_last: Whether images are passed in this memory format.
        compile: Whether the passes are compiled.
        chunk_size: Images that the teacher sees at once.
    """

    dtype: str | None = None
    fold: bool = False
    channels_last: bool = False
    compile: bool = False
    chunk_size: int | None = None

    def teacher(self, module: nn.Module) -> FrozenTeacher:
        """Wrap a network that takes the images as they are."""
        return FrozenTeacher(
            module, dtype=self.dtype, fold=self.fold, channels_last=self.channels_last, compile=self.compile
        )


ROWS: dict[str, Configuration] = {
    BASELINE: Configuration(),
    "fp32-folded": Configuration(fold=True),
    "fp32-folded-channels_last": Configuration(fold=True, channels_last=True),
    "fp32-folded-chunks": Configuration(fold=True, chunk_size=32),
    "bf16": Configuration(dtype="bfloat16"),
    CANDIDATE: Configuration(dtype="bfloat16", fold=True, channels_last=True),
    "fp32-folded-compiled": Configuration(fold=True, compile=True),
    "bf16-folded-channels_last-compiled": Configuration(dtype="bfloat16", fold=True, channels_last=True, compile=True),
}
SOLVERS = {"paper": SuperMix, "fast": SuperMix.fast}
DEFAULT_ROWS = [name for name, row in ROWS.items() if not row.compile]
TARGETS = {
    "speed_up": Target(what="speed-up", limit=1.5, at_least=True),
    "points_apart": Target(what="points from fp32", limit=1.0),
    "retested_share": Target(what="solved again in fp32", limit=0.97, at_least=True),
}

_NOTES = (
    (
        "For every seed and batch the rows take turns, in an order that rotates, after a warm-up of each. Seconds: all "
        "batches of a seed, whole calls of the mixer. Speed-up: fp32's seconds over the row's, seed by seed. Median "
        "(least - most) over the seeds, as are the milliseconds: seconds over the solved sets of k different classes."
    ),
    (
        "Solved: the row's teacher finds the classes of the set in the very pixels of the mix. Of the sets of k "
        "different classes (the teacher's, as the row sees them); mean ± standard deviation over the seeds. Points: "
        "the row's mean against that of fp32."
    ),
    (
        "Again in fp32: how many of the row's solved sets, with repeated classes too, pass the criterion when the "
        "unfolded float32 teacher is shown the mixes again. Equal outcomes: sets that ended like those of fp32, solved "
        "or not, among all."
    ),
    "Forwards: images passed, label forwards and what fills batches up for compiled passes included.",
)


@dataclass(kw_only=True)
class Trial:
    """A row with one seed.

    Attributes:
        seed: Of the mixing weights.
        seconds: Of the mixer's calls.
        forwards: Images that the teacher passed.
        sets: All sets.
        attempted: Sets of k different classes.
        attempted_solved: How many of them were solved.
        solved: How many of all sets were solved: the row's teacher finds their classes in exactly the mixes.
        retested: How many of these pass in float32.
        equal: Sets that ended as with the baseline.
    """

    seed: int
    seconds: float = 0.0
    forwards: int = 0
    sets: int = 0
    attempted: int = 0
    attempted_solved: int = 0
    solved: int = 0
    retested: int = 0
    equal: int = 0

    def count(self, mix: MixedBatch, seconds: float, k: int, judge: nn.Module, baseline: MixedBatch) -> None:
        """Take in a batch."""
        attempted, solved = different_classes(mix.source_classes, k), accepted(mix)
        self.seconds += seconds
        self.forwards += mix.teacher_forwards
        self.sets += len(mix)
        self.attempted += int(attempted.sum())
        self.attempted_solved += int((attempted & solved).sum())
        self.solved += int(solved.sum())
        self.retested += int((passes_again(mix, judge) & solved).sum())
        self.equal += int((solved == accepted(baseline)).sum())


@torch.no_grad()
def passes_again(mix: MixedBatch, judge: nn.Module) -> Tensor:
    """Tell which mixes meet the criterion when a network is shown them."""
    logits = judge(mix.images)
    return margin(logits, class_membership(mix.source_classes, logits.shape[1])) > 0


@dataclass(frozen=True, kw_only=True)
class Result:
    """A row with every seed, and what it is compared with."""

    name: str
    trials: list[Trial]
    baseline: list[Trial]

    def numbers(self) -> dict[str, list[float | None]]:
        """Give what the table shows, a value a seed."""
        pairs = list(zip(self.trials, self.baseline, strict=True))
        return {
            "milliseconds": [_ratio(1000 * trial.seconds, trial.attempted_solved) for trial in self.trials],
            "speed_up": [base.seconds / trial.seconds for trial, base in pairs],
            "solved_share": [_ratio(trial.attempted_solved, trial.attempted) for trial in self.trials],
            "retested_share": [_ratio(trial.retested, trial.solved) for trial in self.trials],
            "equal_share": [_ratio(trial.equal, trial.sets) for trial in self.trials],
        }

    def points_apart(self) -> float | None:
        """Measure the distance between the acceptance of the row and that of the baseline in points."""
        means = []
        for trials in (self.trials, self.baseline):
            summary = Summary.of([_ratio(trial.attempted_solved, trial.attempted) for trial in trials])
            means.append(None if summary is None else summary.mean)
        return None if None in means else 100 * abs(means[0] - means[1])

    def verdicts(self) -> list[str]:
        """Say which targets are met; they are for one row."""
        if self.name != CANDIDATE:
            return []
        speed_up, retested = (Summary.of(self.numbers()[name]) for name in ("speed_up", "retested_share"))
        return [
            TARGETS["speed_up"].verdict(None if speed_up is None else speed_up.median),
            TARGETS["points_apart"].verdict(self.points_apart()),
            TARGETS["retested_share"].verdict(None if retested is None else retested.mean),
        ]


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    command_line = sys.argv[1:] if command_line is None else command_line
    options = parse(command_line)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    try:
        teacher, images = arguments.subject(options).open(device)
        folder = Path(options.output)
        folder.mkdir(parents=True, exist_ok=True)
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"{PROGRAM}: error: {error}")
    origin = provenance.collect(PROGRAM, command_line, seeds=options.seeds, device=device)
    with output.progress_bar() as progress:
        results = measure(options, teacher.module, images.to(device), progress)
    differing = arguments.other_than_published(options)
    remark = f"The targets were set for {arguments.PUBLISHED}"
    remark += f"; this run differs in {', '.join(differing)}." if differing else ", as in this run."
    output.publish(
        folder / ("precision" + f"_{options.solver}" * (options.solver != "paper") + f"_{device.type}"),
        title="Precision and memory format of the teacher's passes",
        origin=origin,
        settings=output.settings(options, "output"),
        remark=remark,
        tables=[table(results)],
        content={"rows": [_content(result) for result in results]},
    )


def parse(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line; end the program with a message where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}",
        description="Measure what makes the teacher's passes faster, and whether the mixes stay what they are.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    arguments.add_subject(parser)
    parser.set_defaults(output="experiments/results/precision")
    add = parser.add_argument
    add("--rows", nargs="+", default=DEFAULT_ROWS, choices=list(ROWS), help=f"{BASELINE} is always among them")
    add("--solver", default="paper", choices=list(SOLVERS), help="SuperMix() or SuperMix.fast()")
    add("--batch-size", type=int, default=128, help="sets solved together")
    add("--max-steps", type=int, help="of a set; the solver's own if not given")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the mixing weights; each is a repeat of the times")
    options = parser.parse_args(command_line)
    try:
        arguments.check_subject(options)
        arguments.check_least(options, "batch_size", options.k)
        options.max_steps = SOLVERS[options.solver]().max_steps if options.max_steps is None else options.max_steps
        arguments.check_least(options, "max_steps", 1)
        arguments.check_batches(options, options.batch_size)
        if min(options.seeds) < 0:
            raise ValueError(f"expected --seeds >= 0, got {min(options.seeds)}")
    except ValueError as error:
        parser.error(str(error))
    options.rows = [name for name in ROWS if name in (BASELINE, *options.rows)]
    return options


def measure(
    options: argparse.Namespace, module: nn.Module, images: Float[Tensor, "m c h w"], progress: Progress
) -> list[Result]:
    """Let the rows solve the same batches in turns."""
    batches = images.split(options.batch_size)
    chosen = {name: ROWS[name] for name in options.rows}
    teachers = {name: row.teacher(module) for name, row in chosen.items()}
    solver = SOLVERS[options.solver](k=options.k, max_steps=options.max_steps)
    mixers = {name: dataclasses.replace(solver, chunk_size=row.chunk_size) for name, row in chosen.items()}
    turns = len(chosen) * (1 + len(options.seeds) * len(batches))
    task = progress.add_task("warm-up", total=turns)
    for name in chosen:
        mixers[name](teachers[name], batches[0], seed=(options.seeds[0], 0))
        progress.advance(task)
    trials: dict[str, list[Trial]] = {name: [] for name in chosen}
    for seed in options.seeds:
        for name in chosen:
            trials[name].append(Trial(seed=seed))
        for number, batch in enumerate(batches):
            mixes: dict[str, tuple[MixedBatch, float]] = {}
            for name in _rotated(list(chosen), seed + number):
                progress.update(task, description=f"seed {seed}: {name}")
                mixes[name] = timed(
                    lambda n=name, i=batch, s=(seed, number): mixers[n](teachers[n], i, seed=s), batch.device
                )
                progress.advance(task)
            for name, (mix, seconds) in mixes.items():
                trials[name][-1].count(mix, seconds, options.k, module, mixes[BASELINE][0])
    return [Result(name=name, trials=trials[name], baseline=trials[BASELINE]) for name in chosen]


def table(results: Sequence[Result]) -> Table:
    """Lay the rows out, with the targets of the one that they are for."""
    rows = []
    for result in results:
        numbers, apart = result.numbers(), result.points_apart()
        rows.append(
            (
                result.name,
                median_cell([trial.seconds for trial in result.trials], 2),
                median_cell(numbers["milliseconds"], 1),
                median_cell(numbers["speed_up"], 2),
                mean_cell([trial.forwards for trial in result.trials], 0),
                mean_cell(_percent(numbers["solved_share"]), 1),
                "-" if apart is None else f"{apart:.1f}",
                mean_cell(_percent(numbers["retested_share"]), 1),
                mean_cell(_percent(numbers["equal_share"]), 1),
                "; ".join(result.verdicts()) or "-",
            )
        )
    columns = (
        "row",
        "seconds",
        "ms / solved set",
        "speed-up",
        "forwards",
        "solved %",
        "points from fp32",
        "again in fp32 %",
    )
    columns = (*columns, "equal outcomes %", "target")
    return Table(title="The teacher's passes", columns=columns, rows=rows, notes=_NOTES)


def _content(result: Result) -> dict[str, Any]:
    return {
        "row": result.name,
        "configuration": dataclasses.asdict(ROWS[result.name]),
        "trials": [dataclasses.asdict(trial) for trial in result.trials],
        **result.numbers(),
        "points_apart": result.points_apart(),
        "targets": result.verdicts(),
    }


def _rotated(names: list[str], turn: int) -> list[str]:
    start = turn % len(names)
    return names[start:] + names[:start]


def _percent(shares: Sequence[float | None]) -> list[float | None]:
    return [None if share is None else 100 * share for share in shares]


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


if __name__ == "__main__":
    main()
