"""Measure a training step with mixes: see conf/bench/step.yaml."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from supermix_pl.arguments import check_at_least
from supermix_pl.experiments.bench.program import Result, Settings, run
from supermix_pl.experiments.bench.step.contenders import COLUMNS, NOTES, contenders, rows, time_steps
from supermix_pl.experiments.opening import open_subject
from supermix_pl.experiments.shared.runs.identity import target
from supermix_pl.experiments.shared.table import Notes, Table


@dataclass(frozen=True, kw_only=True)
class StepSettings(Settings):
    """See conf/bench/step.yaml."""

    LEAST = {"batch_sizes": 2, "steps": 1, "blocks": 1}

    images: int
    batch_sizes: list[int]
    streams: list[dict[str, Any]]
    batch_engine: bool
    steps: int
    blocks: int

    def check(self) -> None:
        """Check what hangs together."""
        check_at_least("bench.images", self.images, max(self.batch_sizes))
        contenders(self.streams, 2)


def measure(config: DictConfig, settings: StepSettings) -> Result:
    """Time the steps of a student, batch size by batch size."""
    subject = open_subject(config, num_images=settings.images, split="train")
    torch.manual_seed(config.seed)
    student = instantiate(config.network, num_classes=subject.teacher.num_classes).to(subject.images.device)
    student = student.to(memory_format=torch.channels_last) if config.channels_last else student
    precision, timings = str(config.trainer.precision), {}
    for size in settings.batch_sizes:
        timings[size] = time_steps(
            contenders(settings.streams, subject.supermix.k, with_batch=settings.batch_engine),
            student,
            subject.teacher,
            [batch for batch in subject.batches(size) if len(batch[0]) == size],
            subject.view,
            steps=settings.steps,
            blocks=settings.blocks,
            low_precision=precision.startswith("bf16"),
        )
    tables = [
        Table(title=f"{size} natural images and {size} mixes", columns=COLUMNS, sections=(rows(found),))
        for size, found in timings.items()
    ]
    return Result(
        name=f"{subject.data}_{subject.network}_{precision}",
        title=f"Training step with mixes: {subject.title}",
        remark=f"Student {target(dict(config.network))}, {precision}, teacher in {config.teacher.get('dtype')}, "
        f"compiled: {subject.teacher.compile}.",
        tables=[*tables, Notes(lines=NOTES)],
        content={
            "timings": {
                str(size): {name: asdict(timing) for name, timing in found.items()} for size, found in timings.items()
            }
        },
        seeds=[config.seed],
        device=subject.images.device,
    )


main = partial(run, "step", StepSettings, measure)

if __name__ == "__main__":
    main()
