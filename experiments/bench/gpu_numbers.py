"""The training steps that a GPU is timed by: those of the step's benchmark, with compiled passes and without."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from supermix_pl.experiments.bench import step
from supermix_pl.experiments.bench.gpu_subjects import Opened
from supermix_pl.experiments.bench.step_training import Timing


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long it is measured.

    Args:
        blocks: In which the contenders take turns.
        steps: In a block.
    """

    blocks: int = 7
    steps: int = 8


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What was measured of one teacher, batch and way of passing; no timings where that failed.

    Args:
        teacher: Name of the network.
        student: Likewise.
        trained: Whether the teacher has trained weights.
        batch_size: Natural images in a step, and as many mixes.
        compiled: Whether the teacher's passes were.
        timings: By contender.
        error: What went wrong.
    """

    teacher: str
    student: str
    trained: bool
    batch_size: int
    compiled: bool
    timings: dict[str, Timing] = dataclasses.field(default_factory=dict)
    error: str = ""

    def content(self) -> dict[str, Any]:
        """Give everything, for the JSON file."""
        return dataclasses.asdict(self)


def training_steps(opened: Opened, batch_size: int, effort: Effort, *, compiled: bool) -> Steps:
    """Time training steps; what goes wrong is kept in their place."""
    found = Steps(
        teacher=opened.name,
        student=opened.student,
        trained=opened.subject.checkpoint is not None,
        batch_size=batch_size,
        compiled=compiled,
    )
    length = ["--steps", str(effort.steps), "--blocks", str(effort.blocks), "--batch-sizes", str(batch_size)]
    options = step.parse([*_common(opened), *length, "--no-batch-engine", *["--compile"] * compiled])
    try:
        timings = step.run(options, opened.teacher, opened.images, opened.labels, batch_size, opened.dataset.view)
    except Exception as error:  # the other numbers are still worth their time
        return dataclasses.replace(found, error=f"{type(error).__name__}: {error}")
    return dataclasses.replace(found, timings=timings)


def _common(opened: Opened) -> Sequence[str]:
    subject = opened.subject
    files = [] if subject.checkpoint is None else ["--checkpoint", subject.checkpoint]
    where = ["--images", str(subject.num_images), "--data", subject.data, "--device", opened.images.device.type]
    return ["--network", subject.network, *files, *where, "--student", opened.student]
