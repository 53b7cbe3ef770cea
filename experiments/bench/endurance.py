"""Watch the memory of a long training, and the peak of a call: see conf/bench/endurance.yaml."""

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from supermix_pl import FrozenTeacher, SuperMix, SuperMixCallback
from supermix_pl.arguments import check_at_least
from supermix_pl.engine import BatchEngine, Engine, StreamEngine
from supermix_pl.experiments import networks
from supermix_pl.experiments.bench import memory
from supermix_pl.experiments.bench.program import Result, Settings, run
from supermix_pl.experiments.bench.target import Target
from supermix_pl.experiments.data import Shapes
from supermix_pl.experiments.shared.quiet import quiet_lightning
from supermix_pl.experiments.shared.table import Notes, Part, Table
from supermix_pl.transforms import RandomCropFlip

GROWTH, PEAK = Target(what="growth %", limit=2.0), Target(what="ratio", limit=1.2)
_MIXER = SuperMix.fast(mask_size=8, max_steps=8)
_REUSE, _STORE_BYTES = 8.0, 2**20
_SETTLED_OVER, _WRITTEN_EVERY, _CHECKPOINTS = 50, 10, 20
_NOTES = (
    "Resident: what of the process lies in main memory; on a GPU also what tensors hold there. Read after every step.",
    (
        f"Growth: the most from the settled step on, over the median of the {_SETTLED_OVER} steps from there. Slope: "
        "of the least-squares line through the same steps."
    ),
    f"{_CHECKPOINTS} checkpoints are written on the way, with the engine's state; the store is full before it settles.",
    f"Peak: {memory.MEANING} Of a batch, with SuperMix(max_steps=10), and of one bare forward and input gradient.",
)


@dataclass(frozen=True, kw_only=True)
class EnduranceSettings(Settings):
    """See conf/bench/endurance.yaml."""

    LEAST = {"settle": 0, "images": 2, "size": 16, "batch_size": 2, "teacher_steps": 0}
    CHOICES = {"device": ("cpu", "cuda"), "engine": ("batch", "stream")}

    device: str
    engine: str
    steps: int
    settle: int
    images: int
    size: int
    batch_size: int
    teacher_steps: int

    def check(self) -> None:
        """Check what hangs together."""
        check_at_least("bench.steps", self.steps, self.settle + 2)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("expected a GPU for bench.device=cuda, got a machine or a build of torch without one")


@dataclass(frozen=True, kw_only=True)
class Course:
    """What was held at the end of every step.

    Args:
        where: Whose memory.
        held: Bytes after each step.
        settled: The step from which it should be flat.
    """

    where: str
    held: list[int]
    settled: int

    def numbers(self) -> dict[str, float]:
        """Return bytes held when settled, at the end and at most; growth in %; slope in bytes a step."""
        flat = self.held[self.settled :]
        start = statistics.median(flat[:_SETTLED_OVER])
        slope = statistics.linear_regression(range(len(flat)), flat).slope
        growth = 100 * (max(flat) / start - 1)
        return {"start": start, "end": self.held[-1], "most": max(flat), "growth": growth, "slope": slope}


@dataclass
class Watch(pl.Callback):
    """Read the memory at the end of every step."""

    device: torch.device
    held: dict[str, list[int]] = field(default_factory=dict)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read it."""
        self.held.setdefault("resident", []).append(resident_bytes())
        if self.device.type == "cuda":
            self.held.setdefault("device", []).append(torch.cuda.memory_allocated(self.device))


class Student(pl.LightningModule):
    """A network with the usual steps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss."""
        return cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def resident_bytes() -> int:
    """Return what of this process lies in main memory.

    Raises:
        OSError: On a machine without /proc.
    """
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(config: DictConfig, settings: EnduranceSettings) -> Result:
    """Train, and watch."""
    resident_bytes()
    device = torch.device(settings.device)
    with tempfile.TemporaryDirectory() as folder, quiet_lightning():
        pl.seed_everything(config.seed, verbose=False)
        data = Shapes(train_size=settings.images, test_size=1, size=settings.size, batch_size=settings.batch_size)
        data.setup()
        teacher = FrozenTeacher(_trained(data, settings.teacher_steps)).to(device)
        images = next(iter(data.train_dataloader()))[0].to(device)
        peaks = {
            name: memory.peak_of(teacher, images, mixer, seed=config.seed)
            for name, mixer in {"solver": SuperMix(max_steps=10), "bare": None}.items()
        }
        start = time.perf_counter()
        held, metrics = train(teacher, data, settings, config.seed, Path(folder))
    courses = [Course(where=where, held=each, settled=settings.settle) for where, each in held.items()]
    rows = [{"where": each.where, "held": each.held[::_WRITTEN_EVERY], **each.numbers()} for each in courses]
    return Result(
        name=settings.engine,
        title=f"Memory of {settings.steps} training steps, {settings.engine} engine",
        remark=f"{len(courses[0].held)} steps in {time.perf_counter() - start:.0f} s, "
        f"{metrics['supermix/holds']:.0%} of the last batch's mixes hold.",
        tables=tables(courses, peaks),
        content={"every": _WRITTEN_EVERY, "courses": rows, "peaks": peaks, "metrics": metrics},
        seeds=[config.seed],
        device=device,
    )


def train(
    teacher: FrozenTeacher, data: Shapes, settings: EnduranceSettings, seed: int, folder: Path
) -> tuple[dict[str, list[int]], dict[str, float]]:
    """Train a student with checkpoints in a folder; return what was held, and the last metrics."""
    stream = StreamEngine(reuse=_REUSE, store_bytes=_STORE_BYTES)
    engine: Engine = BatchEngine() if settings.engine == "batch" else stream
    every = max(1, settings.steps // _CHECKPOINTS)
    saving = ModelCheckpoint(folder, "run", every_n_train_steps=every, enable_version_counter=False)
    watch, view = Watch(torch.device(settings.device)), RandomCropFlip()
    mixing = SuperMixCallback(teacher, _MIXER, engine=engine, mixed_transform=view, save_state=True, seed=seed)
    trainer = pl.Trainer(
        accelerator="gpu" if settings.device == "cuda" else "cpu",
        devices=1,
        max_epochs=-1,
        max_steps=settings.steps,
        callbacks=[mixing, saving, watch],
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(Student(networks.resnet8(num_classes=data.num_classes)), datamodule=data)
    return watch.held, {name: float(value) for name, value in trainer.callback_metrics.items()}


def _trained(data: Shapes, steps: int) -> nn.Module:
    """Train a teacher for a little while, so that it tells the images apart."""
    network = networks.resnet8(num_classes=data.num_classes)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    loader, done = data.train_dataloader(), 0
    while done < steps:
        for images, labels in loader:
            optimizer.zero_grad()
            cross_entropy(network(images), labels).backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
    return network


def tables(courses: Sequence[Course], peaks: dict[str, int]) -> list[Part]:
    """Lay out what was held, and the peaks."""
    rows = []
    for course in courses:
        found = course.numbers()
        mebibytes = [f"{found[name] / 2**20:.1f}" for name in ("start", "end", "most")]
        rows.append(
            (
                course.where,
                *mebibytes,
                f"{found['growth']:.2f}",
                f"{found['slope']:.0f}",
                GROWTH.verdict(found["growth"]),
            )
        )
    columns = ("memory", "settled MiB", "at the end MiB", "most MiB", "growth %", "bytes a step", "target")
    ratio = peaks["solver"] / peaks["bare"]
    peak = (*(f"{value / 2**20:.1f}" for value in peaks.values()), f"{ratio:.3f}", PEAK.verdict(ratio))
    return [
        Table(title="Memory held", columns=columns, sections=(tuple(rows),)),
        Table(title="Peak of a call", columns=("solver MiB", "bare MiB", "ratio", "target"), sections=((peak,),)),
        Notes(lines=_NOTES),
    ]


def main(overrides: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    run("endurance", EnduranceSettings, measure, overrides)


if __name__ == "__main__":
    main()
