"""The metrics of the mixing, as Lightning is to log them."""

from collections import deque
from collections.abc import Mapping
from statistics import fmean
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


class RecentMeans:
    """Means over the last batches, of numbers by name."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}

    def add(self, values: Mapping[str, float], period: int) -> dict[str, float]:
        """Take in a batch's numbers.

        Args:
            values: The numbers.
            period: Batches after which the work repeats itself, >= 1.

        Returns:
            Their means over the last `period` batches, or as many as there were.
        """
        means = {}
        for name, value in values.items():
            self._seen[name] = deque([*self._seen.get(name, ()), value], maxlen=period)
            means[name] = fmean(self._seen[name])
        return means


class MixingLog:
    """Gathers the metrics of a batch; what comes in bursts is averaged over the engine's work cycle.

    Args:
        engine: Tells its own metrics.
        stopwatch: Times mixing and training.
    """

    def __init__(self, engine: Engine, stopwatch: Stopwatch) -> None:
        self._engine = engine
        self._stopwatch = stopwatch
        self._recent = RecentMeans()

    def values(
        self, mix: MixedBatch, milliseconds: float, average_ms: float | None = None
    ) -> dict[str, float | Tensor]:
        """Return the metrics of a batch by name.

        Args:
            mix: The mixes in it.
            milliseconds: That the mixing took the host.
            average_ms: Of the last update of a moving average; None if there is none.
        """
        period, told = self._engine.period, self._engine.metrics()
        bursts = {"ms": milliseconds, "teacher_forwards": float(mix.teacher_forwards)}
        bursts |= {"fresh": told["fresh"]} if "fresh" in told else {}
        means = self._recent.add(bursts, period)
        values: dict[str, float | Tensor] = {"ms": means["ms"]}
        if mix.holds is not None:
            values["holds"] = mix.holds.float().mean()
        if mix.teacher_logits is not None:
            values["solved_fraction"] = mix.solved.float().mean()
            values["label_forwards"] = float(mix.label_forwards)
            values["non_finite_fraction"] = mix.non_finite.float().mean()
            values["steps"] = mix.num_steps.float().mean()
            values["teacher_forwards"] = means["teacher_forwards"]
        if mix.left_out:
            values["left_out"] = float(mix.left_out)
        if (seconds := self._stopwatch.recent(period)) is not None:
            values["time_share"] = seconds[0] / sum(seconds)
        if average_ms is not None:
            values["average_ms"] = average_ms
        values |= {name: means.get(name, value) for name, value in told.items()}
        return {f"supermix/{name}": value for name, value in values.items()}
