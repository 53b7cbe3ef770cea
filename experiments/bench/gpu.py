"""Time training steps of untrained networks on a GPU, compiled and not: see conf/bench/gpu.yaml."""

import gc
import itertools
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from hydra.utils import instantiate
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.arguments import check_positive
from supermix_pl.experiments.bench.program import Result, Settings, run
from supermix_pl.experiments.bench.step import COLUMNS, NOTES, Timing, contenders, rows, time_steps
from supermix_pl.experiments.data import Shapes
from supermix_pl.experiments.resolvers import bfloat16
from supermix_pl.experiments.shared.render import Notes, Table
from supermix_pl.experiments.shared.runs.identity import target
from supermix_pl.experiments.shared.subject import Subject
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
        check_positive("bench.minutes", self.minutes)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "expected a GPU, got a machine or a build of torch without one; bench/cases=smoke needs none"
            )


def measure(config: DictConfig, settings: GpuSettings) -> Result:
    """Time one case after the other, as far as the time goes; what goes wrong is kept in the place of its numbers."""
    start, device = time.perf_counter(), torch.device(settings.device)
    results: list[dict[str, Any]] = []
    for case in config.bench.cases.values():
        subject, student = open_case(case, max(settings.batch_sizes), device)
        for size, compiled in itertools.product(settings.batch_sizes, settings.compiled):
            if time.perf_counter() - start > 60 * settings.minutes:
                break
            steps: dict[str, Any] = {"networks": subject.network, "batch_size": size, "compiled": compiled, "error": ""}
            try:
                steps["timings"] = _time(subject, student, size, settings, compiled=compiled)
            except Exception as error:  # the other numbers are still worth their time
                steps |= {"timings": {}, "error": f"{type(error).__name__}: {error}"}
            results.append(steps)
            done = f"{', '.join(_names(steps))}: {steps['error'] or 'done'}"
            print(f"{time.perf_counter() - start:6.1f} s  {done}", file=sys.stderr, flush=True)
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    columns = ("teacher, student", "batch", "passes", *COLUMNS)
    table = Table(title="Training steps", columns=columns, sections=tuple(map(_rows, results)), names=4)
    return Result(
        name="gpu",
        title="On a GPU" if device.type == "cuda" else "The GPU's benchmark on a CPU",
        remark=f"All in one process, one after the other, in {time.perf_counter() - start:.0f} s.",
        tables=[table, Notes(lines=(*NOTES, _NOTE))],
        content={
            "steps": [
                steps | {"timings": {name: asdict(timing) for name, timing in steps["timings"].items()}}
                for steps in results
            ]
        },
        seeds=[0],
        device=device,
        failed=any(steps["error"] for steps in results),
    )


def _time(
    subject: Subject, student: nn.Module, size: int, settings: GpuSettings, *, compiled: bool
) -> dict[str, Timing]:
    """Time training steps, in bfloat16 where the device has it."""
    dtype = bfloat16("gpu" if subject.images.is_cuda else "cpu")
    images = subject.images.contiguous(memory_format=torch.channels_last)
    return time_steps(
        contenders([{}, {"max_steps": 6, "show_from": 0}], 2, with_batch=False),
        student.to(memory_format=torch.channels_last),
        FrozenTeacher(subject.teacher.module, dtype=dtype, channels_last=True, compile=compiled),
        list(zip(images.split(size), subject.labels.split(size), strict=True)),
        RandomCropFlip(),
        steps=settings.steps,
        blocks=settings.blocks,
        low_precision=dtype is not None,
    )


def _rows(steps: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    if steps["error"]:
        return ((*_names(steps), steps["error"].partition(":")[0], *["-"] * (len(COLUMNS) - 1)),)
    return tuple((*_names(steps), *row) for row in rows(steps["timings"]))


def _names(steps: dict[str, Any]) -> tuple[str, str, str]:
    size = steps["batch_size"]
    return steps["networks"], f"{size} + {size}", "compiled" if steps["compiled"] else "eager"


def open_case(case: DictConfig, num_images: int, device: torch.device) -> tuple[Subject, nn.Module]:
    """Build teacher and student of a case, untrained, and draw its images."""
    data = Shapes(train_size=1, test_size=num_images, size=case.size, eval_batch_size=num_images)
    data.setup()
    images, labels = (each.to(device) for each in next(iter(data.test_dataloader())))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = [instantiate(case[name], num_classes=data.num_classes) for name in ("teacher", "student")]
    teacher = FrozenTeacher(networks[0]).to(device)
    calibrate(teacher, images)
    subject = Subject(
        teacher=teacher,
        images=images,
        labels=labels,
        class_names=data.class_names,
        mean=data.mean,
        std=data.std,
        supermix=SuperMix(),
        seed=0,
        data="shapes",
        network=", ".join(target(dict(case[name])) for name in ("teacher", "student")),
    )
    return subject, networks[1].to(device)


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
