"""Time training steps of untrained networks on a GPU, compiled and not: see conf/bench/gpu.yaml."""

import gc
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from hydra.utils import instantiate
from jaxtyping import Float, Int
from omegaconf import DictConfig
from torch import Tensor, nn

from supermix_pl import FrozenTeacher
from supermix_pl.arguments import check_positive
from supermix_pl.experiments.bench.program import Result, Settings, run
from supermix_pl.experiments.bench.step import COLUMNS, NOTES, Timing, contenders, rows, time_steps
from supermix_pl.experiments.data import Shapes
from supermix_pl.experiments.resolvers import bfloat16
from supermix_pl.experiments.shared.table import Notes, Table
from supermix_pl.transforms import RandomCropFlip

_PASSES_TO_CALIBRATE = 20
_SPREAD = 4.0
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
class Opened:
    """A teacher on a device, with a batch of images there."""

    name: str  # of the networks
    teacher: FrozenTeacher  # in float32, with batch norm folded
    student: nn.Module  # likewise untrained
    images: Float[Tensor, "b c h w"]
    labels: Int[Tensor, " b"]  # their classes


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Training steps of one case; no timings where they failed."""

    networks: str  # teacher and student
    batch_size: int  # natural images in a step, and as many mixes
    compiled: bool  # whether the student and the teacher's passes were
    timings: dict[str, Timing] = field(default_factory=dict)  # by contender
    error: str = ""  # what went wrong


def measure(config: DictConfig, settings: GpuSettings) -> Result:
    """Time one case after the other, as far as the time goes."""
    start, device = time.perf_counter(), torch.device(settings.device)
    results = []
    for steps in _all_steps(list(config.bench.cases.values()), settings, start, device):
        results.append(steps)
        took = time.perf_counter() - start
        print(f"{took:6.1f} s  {', '.join(_name(steps))}: {steps.error or 'done'}", file=sys.stderr, flush=True)
    columns = ("teacher, student", "batch", "passes", *COLUMNS)
    table = Table(title="Training steps", columns=columns, sections=tuple(map(_rows, results)), names=4)
    return Result(
        name="gpu",
        title="On a GPU" if device.type == "cuda" else "The GPU's benchmark on a CPU",
        remark=f"All in one process, one after the other, in {time.perf_counter() - start:.0f} s.",
        tables=[table, Notes(lines=(*NOTES, _NOTE))],
        content={"steps": [asdict(steps) for steps in results]},
        seeds=[0],
        device=device,
        failed=any(steps.error for steps in results),
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


def _rows(steps: Steps) -> tuple[tuple[str, ...], ...]:
    if steps.error:
        return ((*_name(steps), steps.error.partition(":")[0], *["-"] * (len(COLUMNS) - 1)),)
    return tuple((*_name(steps), *row) for row in rows(steps.timings))


def _name(steps: Steps) -> tuple[str, str, str]:
    way = "compiled" if steps.compiled else "eager"
    return steps.networks, f"{steps.batch_size} + {steps.batch_size}", way


def open_case(case: DictConfig, num_images: int, device: torch.device) -> Opened:
    """Build teacher and student of a case, and draw its images."""
    data = Shapes(train_size=1, test_size=num_images, size=case.size, eval_batch_size=num_images)
    data.setup()
    images, labels = next(iter(data.test_dataloader()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = [instantiate(case[name], num_classes=data.num_classes) for name in ("teacher", "student")]
    images, teacher = images.to(device), FrozenTeacher(networks[0]).to(device)
    calibrate(teacher, images)
    names = [str(case[name]._target_).rpartition(".")[2] for name in ("teacher", "student")]
    return Opened(
        name=", ".join(names), teacher=teacher, student=networks[1].to(device), images=images, labels=labels.to(device)
    )


@torch.no_grad()
def calibrate(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"]) -> None:
    """Fit an untrained network's batch norm and last layer to images, so that it gives them different classes.

    Raises:
        ValueError: If it does not end in a linear layer.
    """
    module = teacher.module.train()
    for _ in range(_PASSES_TO_CALIBRATE):
        module(images)
    module.eval()
    last = [part for part in module.modules() if isinstance(part, nn.Linear)][-1:]
    logits = module(images)
    if not last or last[0].out_features != logits.shape[1]:
        raise ValueError(f"expected a network that ends in a linear layer, got {type(module).__name__}")
    scale = _SPREAD / logits.std(dim=0).mean().clamp_min(1e-12)
    last[0].weight *= scale
    last[0].bias.copy_((last[0].bias - logits.mean(dim=0)) * scale)
    teacher.refold()


main = partial(run, "gpu", GpuSettings, measure)

if __name__ == "__main__":
    main()
