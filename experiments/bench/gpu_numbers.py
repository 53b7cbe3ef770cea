"""What is measured of a network on a GPU: the other benchmarks in short, and the largest batch."""

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench import output, precision, step, walltime
from supermix_pl.experiments.bench.acceptance import run_trial
from supermix_pl.experiments.bench.gpu_subjects import Opened
from supermix_pl.experiments.bench.passes import timed
from supermix_pl.experiments.bench.precision import ROWS
from supermix_pl.experiments.bench.step_training import REFERENCE
from supermix_pl.experiments.bench.tables import Summary
from supermix_pl.solver.chunks import is_out_of_memory

_STREAM, _REUSING = "stream, fast", "8 uses, fast"
_LONG_ENOUGH = 10.0  # seconds that a step may take before the search for the largest batch ends

Numbers = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long it is measured.

    Args:
        repeats: Of walltime's pairs, and blocks of training steps.
        steps: Training steps in a block.
        max_steps: Of a set where precisions are compared.
        most: Images in the largest batch that is tried.
    """

    repeats: int = 3
    steps: int = 6
    max_steps: int = 50
    most: int = 2**17


def training_step(opened: Opened, effort: Effort) -> Numbers:
    """Time training steps of a student like the teacher in bf16 (number 1)."""
    size = ["--mask-size", str(opened.dataset.mask_size)]
    length = ["--steps", str(effort.steps), "--blocks", str(effort.repeats)]
    options = step.parse([*_common(opened), *size, *length, "--contenders", _STREAM, _REUSING])
    timings = step.run(options, opened.teacher, opened.images, opened.labels)
    reference = timings[REFERENCE].steps()
    numbers: Numbers = {"mixup_ms": 1000 * median(reference)}
    for prefix, name in {"stream": _STREAM, "reusing": _REUSING}.items():
        steps, fresh = timings[name].steps(), timings[name].fresh
        numbers[f"{prefix}_ms"] = 1000 * median(steps)
        numbers[f"{prefix}_ratio"] = median([one / two for one, two in zip(steps, reference, strict=True)])
        numbers[f"{prefix}_fresh"] = sum(fresh) / len(fresh)
    return {
        **numbers,
        "timings": {name: dataclasses.asdict(timing) for name, timing in timings.items()},
    }


def wall_time(opened: Opened, effort: Effort) -> Numbers:
    """Time the batch engine's solver against its bare passes (number 2)."""
    mixer = opened.mixer()
    walltime.warm_up(mixer, opened.teacher, opened.images, seed=0)
    pairs = [walltime.time_pair(mixer, opened.teacher, opened.images, seed=0) for _ in range(effort.repeats)]
    return {
        "solver_ms": 1000 * median([pair.solver_seconds for pair in pairs]),
        "bare_ms": 1000 * median([pair.bare_seconds for pair in pairs]),
        "ratio": median([pair.ratio for pair in pairs]),
        "pairs": [dataclasses.asdict(pair) for pair in pairs],
    }


def low_precision(opened: Opened, effort: Effort) -> Numbers:
    """Time bf16, channels_last and folding against float32 (number 3)."""
    length = ["--seeds", *map(str, range(effort.repeats)), "--max-steps", str(effort.max_steps)]
    options = precision.parse([*_common(opened), *length, "--rows", precision.CANDIDATE])
    with output.progress_bar() as progress:
        results = precision.measure(options, opened.teacher.module, opened.images, progress)
    row = next(result for result in results if result.name == precision.CANDIDATE)
    numbers = row.numbers()
    return {
        "speed_up": _median(numbers["speed_up"]),
        "points_apart": row.points_apart(),
        "retested_share": _median(numbers["retested_share"]),
        "rows": {result.name: [dataclasses.asdict(trial) for trial in result.trials] for result in results},
    }


def accepted(opened: Opened, effort: Effort) -> Numbers:
    """Time a solved set: the paper's solver, the fast one, and that with low precision."""
    quick = ROWS[precision.CANDIDATE].teacher(opened.teacher.module)
    paper, fast = opened.mixer(), opened.fast()
    numbers: Numbers = {}
    ways = {"paper": (paper, opened.teacher), "fast": (fast, opened.teacher), "fast_bf16": (fast, quick)}
    for name, (mixer, teacher) in ways.items():
        mixer(teacher, opened.images, seed=0)
        trials = [run_trial(mixer, teacher, [opened.images], seed=seed) for seed in range(effort.repeats)]
        for number in ("ms_a_solved_set", "ms_an_attempted_set", "solved_share", "forwards_a_solved_set"):
            numbers[f"{name}_{number}"] = _median([trial.numbers()[number] for trial in trials])
    return numbers


def largest_batch(opened: Opened, effort: Effort) -> Numbers:
    """Double the batch until memory, patience or `most` ends; a batch that the solver had to halve does not count."""
    size, then = len(opened.images), "the largest that was tried"
    found: Numbers = {"images": 0, "peak_bytes": None}
    while size <= effort.most:
        try:
            seconds, most_rows, peak = _one_step(opened, size)
        except (RuntimeError, ValueError) as error:
            then = "out of memory" if is_out_of_memory(error) else f"{type(error).__name__}: {error}"
            break
        if most_rows is not None:
            then = f"{size} in chunks of {most_rows}"
            break
        found = {"images": size, "peak_bytes": peak}
        if seconds > _LONG_ENOUGH:
            then = f"larger ones take over {_LONG_ENOUGH:g} s"
            break
        size *= 2
    return {**found, "then": then}


def _one_step(opened: Opened, size: int) -> tuple[float, int | None, int | None]:
    """Solve a batch for a step; give its seconds, the size of chunks if it did not fit, and the peak on a GPU."""
    device, teacher = opened.images.device, FrozenTeacher(opened.teacher.module)
    mixer = SuperMix(mask_size=opened.dataset.mask_size, max_steps=1)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    images = opened.images.repeat(-(-size // len(opened.images)), 1, 1, 1)[:size]
    with warnings.catch_warnings(action="ignore"):
        _, seconds = timed(lambda: mixer(teacher, images, seed=0), device)
    return seconds, teacher.most_rows, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def _common(opened: Opened) -> list[str]:
    subject = opened.subject
    files = [] if subject.checkpoint is None else ["--checkpoint", subject.checkpoint]
    number = str(subject.num_images)
    images = ["--images", number, "--batch-size", number, "--data", subject.data, "--device", opened.images.device.type]
    return ["--network", subject.network, *files, *images]


def _median(values: Sequence[float | None]) -> float | None:
    summary = Summary.of(values)
    return None if summary is None else summary.median
