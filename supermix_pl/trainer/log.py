"""The metrics of the mixing, as Lightning is to log them."""

from typing import Any

from torch import Tensor

from supermix_pl.engine import Engine
from supermix_pl.mixing import MixedBatch
from supermix_pl.trainer.stopwatch import Stopwatch

IN_BAR = ("supermix/holds", "supermix/solved_fraction", "supermix/ms")
"""Those that a progress bar has room for."""


def logged_step(trainer: Any) -> int:
    """Return where on their axis Lightning logs the metrics of this step."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def mixing_metrics(
    mix: MixedBatch, engine: Engine, stopwatch: Stopwatch, milliseconds: float, average_ms: float | None = None
) -> dict[str, float | Tensor]:
    """Return the metrics of a batch by name; the times are of the mixing, and of a moving average's update."""
    values: dict[str, float | Tensor] = {"ms": milliseconds}
    if mix.holds is not None:
        values["holds"] = mix.holds.float().mean()
    if mix.teacher_logits is not None:
        values["solved_fraction"] = mix.solved.float().mean()
        values["label_forwards"] = float(mix.label_forwards)
        values["non_finite_fraction"] = mix.non_finite.float().mean()
        values["steps"] = mix.num_steps.float().mean()
        values["teacher_forwards"] = float(mix.teacher_forwards)
    if mix.left_out:
        values["left_out"] = float(mix.left_out)
    if (seconds := stopwatch.recent(1)) is not None:
        values["time_share"] = seconds[0] / sum(seconds)
    if average_ms is not None:
        values["average_ms"] = average_ms
    return {f"supermix/{name}": value for name, value in (values | engine.metrics()).items()}
