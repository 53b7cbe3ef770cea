"""What the teacher's passes take in a training, measured as it goes."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

_REMEMBERED = 32

Mark = Any
"""Seconds of the host's clock, or a `torch.cuda.Event`."""


class PassTimes:
    """Seconds a row of one kind of pass, on the device's own clock where that is a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seen: deque[tuple[Mark, Mark, int]] = deque(maxlen=_REMEMBERED)

    @contextmanager
    def measure(self, rows: int) -> Iterator[None]:
        """Time a pass of some rows, without waiting for the device."""
        start = mark(self._device)
        yield
        if rows:
            self._seen.append((start, mark(self._device), rows))

    def per_row(self) -> float | None:
        """Return the median; waits for the device. None where nothing was measured."""
        if not self._seen:
            return None
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return median(seconds(start, end) / rows for start, end, rows in self._seen)


def mark(device: torch.device) -> Mark:
    """Return the time on the device's own clock where that is a GPU, without waiting for it."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds(first: Mark, second: Mark) -> float:
    """Return the seconds between two marks that the device has reached."""
    return second - first if isinstance(first, float) else first.elapsed_time(second) / 1000
