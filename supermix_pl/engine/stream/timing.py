"""What the teacher's passes take in a training, measured as it goes."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

_REMEMBERED = 32


class PassTimes:
    """Seconds a row of one kind of pass, on the device's own clock where that is a GPU.

    Args:
        device: Where the passes run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seen: deque[tuple[Any, Any, int]] = deque(maxlen=_REMEMBERED)

    @contextmanager
    def measure(self, rows: int) -> Iterator[None]:
        """Time a pass of some rows, without waiting for the device."""
        start = self._mark()
        yield
        if rows:
            self._seen.append((start, self._mark(), rows))

    def per_row(self) -> float | None:
        """Return the median; waits for the device. None where nothing was measured."""
        if not self._seen:
            return None
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return median(_seconds(start, end) / rows for start, end, rows in self._seen)

    def _mark(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _seconds(start: Any, end: Any) -> float:
    return end - start if isinstance(start, float) else start.elapsed_time(end) / 1000
