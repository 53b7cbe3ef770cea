"""Watch the memory of a long run: `python -m supermix_pl.experiments.bench.endurance --help`.

Trains a small student with SuperMix on the embedded data through a real Trainer, with checkpoints on the way, and
writes what the process and its device hold step by step to <engine>_<device>.md and <engine>_<device>.json.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from supermix_pl import FrozenTeacher, SuperMix, SuperMixCallback
from supermix_pl.engine import BatchEngine, Engine, StreamEngine
from supermix_pl.experiments import networks
from supermix_pl.experiments.bench import arguments, output, provenance
from supermix_pl.experiments.bench.tables import Table, Target
from supermix_pl.experiments.data import Shapes
from supermix_pl.experiments.quiet import quiet_lightning
from supermix_pl.transforms import RandomCropFlip

PROGRAM = "supermix_pl.experiments.bench.endurance"
TARGET = Target(what="growth %", limit=2.0)
_MIXER = SuperMix.fast(mask_size=8, max_steps=8)
_REUSE, _STORE_BYTES = 8.0, 2**20
_SETTLED_OVER, _WRITTEN_EVERY = 50, 10
_CHECKPOINTS = 20
_NOTES = (
    (
        "Resident: what of the process lies in main memory (/proc/self/statm), libraries and all; on a GPU also what "
        "tensors hold there (memory_allocated). Read at the end of every step."
    ),
    (
        f"Growth: the most at any step from the settled one on, against the median of the {_SETTLED_OVER} steps from "
        "there. Slope: of the least-squares line through the same steps."
    ),
    f"{_CHECKPOINTS} checkpoints are written on the way, with the engine's state; the store is full before it settles.",
)


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

    @property
    def start(self) -> float:
        """What is held when all has been set up, in bytes."""
        return statistics.median(self.held[self.settled : self.settled + _SETTLED_OVER])

    @property
    def growth(self) -> float:
        """How much more the largest step holds, in %."""
        return 100 * (max(self.held[self.settled :]) / self.start - 1)

    @property
    def slope(self) -> float:
        """Bytes that each step adds."""
        steps = range(self.settled, len(self.held))
        return statistics.linear_regression(steps, self.held[self.settled :]).slope

    def row(self) -> tuple[str, ...]:
        """Write it down."""
        mebibytes = [f"{value / 2**20:.1f}" for value in (self.start, self.held[-1], max(self.held[self.settled :]))]
        return self.where, *mebibytes, f"{self.growth:.2f}", f"{self.slope:.0f}", TARGET.verdict(self.growth)


@dataclass
class Watch(pl.Callback):
    """Reads the memory at the end of every step."""

    device: torch.device
    resident: list[int] = field(default_factory=list)
    allocated: list[int] = field(default_factory=list)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read it."""
        self.resident.append(resident_bytes())
        if self.device.type == "cuda":
            self.allocated.append(torch.cuda.memory_allocated(self.device))

    def courses(self, settled: int) -> list[Course]:
        """Give what was read."""
        read = {"resident": self.resident, "device": self.allocated}
        return [Course(where=where, held=held, settled=settled) for where, held in read.items() if held]


class Student(pl.LightningModule):
    """A network with the usual steps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Give the loss."""
        return cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def resident_bytes() -> int:
    """Give what of this process lies in main memory.

    Raises:
        OSError: On a machine that does not tell.
    """
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(command_line: Sequence[str] | None = None) -> None:
    """Train, print and write."""
    command_line = sys.argv[1:] if command_line is None else command_line
    options = _parse(command_line)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    origin = provenance.collect(PROGRAM, command_line, seeds=[options.seed], device=device)
    with tempfile.TemporaryDirectory() as folder, quiet_lightning():
        start = time.perf_counter()
        watch, metrics = train(options, device, Path(folder))
    seconds = time.perf_counter() - start
    courses = watch.courses(options.settle)
    stem = Path(options.output) / f"{options.engine}_{device.type}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    output.publish(
        stem,
        title=f"Memory of {options.steps} training steps, {options.engine} engine",
        origin=origin,
        settings=output.settings(options, "output"),
        remark=f"{len(watch.resident)} steps in {seconds:.0f} s, {metrics['supermix/holds']:.0%} of the last batch's "
        "mixes hold.",
        tables=[table(courses, options.settle)],
        content={
            "every": _WRITTEN_EVERY,
            "seconds": seconds,
            "courses": [asdict(course) | _numbers(course) for course in courses],
            "metrics": metrics,
        },
    )


def train(options: argparse.Namespace, device: torch.device, folder: Path) -> tuple[Watch, dict[str, float]]:
    """Train the student.

    Args:
        options: Of the command line.
        device: Where.
        folder: For its checkpoints.

    Returns:
        What was seen of the memory, and the last metrics.
    """
    pl.seed_everything(options.seed, verbose=False)
    data = Shapes(train_size=options.images, test_size=1, size=options.size, batch_size=options.batch_size)
    data.setup()
    teacher = FrozenTeacher(_trained(data, options.teacher_steps))
    engine: Engine = (
        BatchEngine() if options.engine == "batch" else StreamEngine(reuse=_REUSE, store_bytes=_STORE_BYTES)
    )
    every = max(1, options.steps // _CHECKPOINTS)
    saving = ModelCheckpoint(folder, "run", every_n_train_steps=every, enable_version_counter=False)
    watch, view = Watch(device), RandomCropFlip()
    mixing = SuperMixCallback(teacher, _MIXER, engine=engine, mixed_transform=view, save_state=True, seed=options.seed)
    trainer = pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        max_epochs=-1,
        max_steps=options.steps,
        callbacks=[mixing, saving, watch],
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(Student(networks.resnet8(num_classes=data.num_classes)), datamodule=data)
    return watch, {name: float(value) for name, value in trainer.callback_metrics.items()}


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


def table(courses: Sequence[Course], settled: int) -> Table:
    """Lay out whose memory it is."""
    columns = ("memory", f"at step {settled} MiB", "at the end MiB", "most MiB", "growth %", "bytes a step", "target")
    return Table(title="Memory held", columns=columns, rows=[course.row() for course in courses], notes=_NOTES)


def _numbers(course: Course) -> dict[str, Any]:
    return {
        "held": course.held[::_WRITTEN_EVERY],
        "start": course.start,
        "end": course.held[-1],
        "most": max(course.held[course.settled :]),
        "growth": course.growth,
        "slope": course.slope,
        "target": TARGET.verdict(course.growth),
    }


def _parse(command_line: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}",
        description="Watch the memory of a long run.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--engine", choices=("batch", "stream"), default="stream", help="when sets are solved")
    add("--steps", type=int, default=2000, help="of the training")
    add("--settle", type=int, default=200, help="step from which the memory should be flat")
    add("--images", type=int, default=1000, help="of the training data")
    add("--size", type=int, default=16, help="side of the images in pixels")
    add("--batch-size", type=int, default=32, help="natural images in a batch")
    add("--teacher-steps", type=int, default=1000, help="that the teacher is trained for beforehand")
    add("--seed", type=int, default=0, help="of everything")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to train")
    add("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    add("--output", default="experiments/results/endurance", help="folder of the files that are written")
    options = parser.parse_args(command_line)
    least = {"settle": 0, "steps": options.settle + 2, "images": 2, "size": 16, "batch_size": 2, "seed": 0}
    try:
        for name, limit in {**least, "teacher_steps": 0, "threads": 1}.items():
            arguments.check_least(options, name, limit)
        if options.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("expected a GPU for --device cuda, got a machine or a build of torch without one")
        resident_bytes()
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    main()
