"""Check and time everything on a GPU: see conf/bench/gpu.yaml."""

import gc
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig

from supermix_pl import FrozenTeacher
from supermix_pl.arguments import check_positive
from supermix_pl.experiments.bench.gpu.checks import Check, run_checks
from supermix_pl.experiments.bench.gpu.opened import Opened, open_case
from supermix_pl.experiments.bench.program import Result, Settings, run
from supermix_pl.experiments.bench.step.contenders import COLUMNS, NOTES, contenders, rows, time_steps
from supermix_pl.experiments.bench.step.training import Timing
from supermix_pl.experiments.resolvers import bfloat16
from supermix_pl.experiments.shared.quiet import quiet_lightning
from supermix_pl.experiments.shared.table import Notes, Part, Table
from supermix_pl.transforms import RandomCropFlip

_NOTE = (
    "The networks are untrained, fitted to the batch alone, so that classes differ. What holds means nothing there. "
    "The step with MixUp of wrn_16_2 taught by wrn_16_2, 128 + 128, took 10.2 ms on an H200; the goal is 5.1."
)


@dataclass(frozen=True, kw_only=True)
class GpuSettings(Settings):
    """See conf/bench/gpu.yaml and conf/bench/cases."""

    LEAST = {"batch_sizes": 2, "steps": 1, "blocks": 1}
    CHOICES = {"device": ("cuda", "cpu")}

    device: str
    checks: bool
    compiled: list[bool]
    batch_sizes: list[int]
    blocks: int
    steps: int
    minutes: float
    cases: dict[str, Any]

    def check(self) -> None:
        """Check what hangs together."""
        check_positive("bench.minutes", self.minutes)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "expected a GPU, got a machine or a build of torch without one; bench/cases=smoke needs none"
            )


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Training steps of one case; no timings where they failed."""

    networks: str  # teacher and student
    batch_size: int  # natural images in a step, and as many mixes
    compiled: bool  # whether the student and the teacher's passes were
    timings: dict[str, Timing] = field(default_factory=dict)  # by contender
    error: str = ""  # what went wrong


def measure(config: DictConfig, settings: GpuSettings) -> Result:
    """Check, then time one case after the other, as far as the time goes."""
    start, device = time.perf_counter(), torch.device(settings.device)
    cases = list(config.bench.cases.values())
    checks: list[Check] = []
    with quiet_lightning():
        if settings.checks:
            for check in run_checks(open_case(cases[0], max(settings.batch_sizes), device)):
                checks.append(check)
                _say(start, f"{'passed' if check.passed else 'FAILED'}: {check.name}: {check.found}")
        results = []
        for steps in _all_steps(cases, settings, start, device):
            results.append(steps)
            _say(start, f"{steps.networks}, {steps.batch_size}, {_way(steps)}: {steps.error or 'done'}")
    return Result(
        name="gpu",
        title="On a GPU" if device.type == "cuda" else "The GPU's benchmark on a CPU",
        remark=f"All in one process, one after the other, in {time.perf_counter() - start:.0f} s.",
        tables=tables(checks, results),
        content={"checks": [asdict(check) for check in checks], "steps": [asdict(steps) for steps in results]},
        seeds=[0],
        device=device,
        failed=any(steps.error for steps in results) or not all(check.passed for check in checks),
    )


def _all_steps(
    cases: Sequence[DictConfig], settings: GpuSettings, start: float, device: torch.device
) -> Iterator[Steps]:
    for case in cases if settings.compiled else ():
        opened = open_case(case, max(settings.batch_sizes), device)
        for size in settings.batch_sizes:
            for compiled in settings.compiled:
                if time.perf_counter() - start > 60 * settings.minutes:
                    return
                yield time_case(opened, size, settings, compiled=compiled)
                gc.collect()
                if device.type == "cuda":
                    torch.cuda.empty_cache()


def time_case(opened: Opened, size: int, settings: GpuSettings, *, compiled: bool) -> Steps:
    """Time training steps, in bfloat16 where the device has it; what goes wrong is kept in their place."""
    found: dict[str, Any] = {"networks": opened.name, "batch_size": size, "compiled": compiled}
    dtype = bfloat16("gpu" if opened.images.is_cuda else "cpu")
    teacher = FrozenTeacher(opened.teacher.module, dtype=dtype, channels_last=True, compile=compiled)
    images = opened.images.contiguous(memory_format=torch.channels_last)
    try:
        timings = time_steps(
            contenders([{}, {"max_steps": 6, "show_from": 0}], 2, with_batch=False),
            opened.student.to(memory_format=torch.channels_last),
            teacher,
            list(zip(images.split(size), opened.labels.split(size), strict=True)),
            RandomCropFlip(),
            steps=settings.steps,
            blocks=settings.blocks,
            low_precision=dtype is not None,
        )
    except Exception as error:  # the other numbers are still worth their time
        return Steps(**found, error=f"{type(error).__name__}: {error}")
    return Steps(**found, timings=timings)


def tables(checks: Sequence[Check], results: Sequence[Steps]) -> list[Part]:
    """Lay out the checks and the steps."""
    found: list[Part] = []
    if checks:
        lines = tuple((check.name, "passed" if check.passed else "FAILED", check.found) for check in checks)
        found.append(Table(title="Checks", columns=("check", "", "found"), sections=(lines,), names=3))
    if results:
        columns = ("teacher, student", "batch", "passes", *COLUMNS)
        table = Table(title="Training steps", columns=columns, sections=tuple(map(_rows, results)), names=4)
        found += [table, Notes(lines=(*NOTES, _NOTE))]
    return found


def _rows(steps: Steps) -> tuple[tuple[str, ...], ...]:
    first = (steps.networks, f"{steps.batch_size} + {steps.batch_size}", _way(steps))
    if steps.error:
        return ((*first, steps.error.partition(":")[0], *["-"] * (len(COLUMNS) - 1)),)
    return tuple((*first, *row) for row in rows(steps.timings))


def _way(steps: Steps) -> str:
    return "compiled" if steps.compiled else "eager"


def _say(start: float, text: str) -> None:
    print(f"{time.perf_counter() - start:6.1f} s  {text}", file=sys.stderr, flush=True)


main = partial(run, "gpu", GpuSettings, measure)

if __name__ == "__main__":
    main()
