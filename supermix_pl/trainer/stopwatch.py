"""How long mixing and the rest of a training step take, without waiting for the device."""

from collections import deque
from statistics import fmean, median

import torch

from supermix_pl.engine.stream.timing import Mark, mark, seconds

_REMEMBERED = 64


class Stopwatch:
    """Times the mixing of a batch and its training step, on the device's own clock where that is a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[Mark] = []
        self._pending: deque[list[Mark]] = deque()
        self._mixing: deque[float] = deque(maxlen=_REMEMBERED)
        self._training: deque[float] = deque(maxlen=_REMEMBERED)

    def start(self) -> None:
        """Mark the start of the mixing."""
        self._marks = [mark(self._device)]

    def mixed(self) -> None:
        """Mark its end."""
        self._marks.append(mark(self._device))

    def trained(self) -> None:
        """Mark the start and then the end of the training step of a mixed batch."""
        if len(self._marks) < 2:
            return
        self._marks.append(mark(self._device))
        if len(self._marks) == 4:
            self._pending.append(self._marks)
            self._marks = []
            self._collect()  # whether or not anybody asks, so that no more is pending than the device has yet to do

    def recent(self, steps: int) -> tuple[float, float] | None:
        """Return the mean seconds of mixing and of training of the newest steps that the device has finished."""
        self._collect()
        return (fmean([*self._mixing][-steps:]), fmean([*self._training][-steps:])) if self._training else None

    def training_seconds(self) -> float | None:
        """Return the median time of the training steps that were seen; waits for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._collect()
        return median(self._training) if self._training else None

    def _collect(self) -> None:
        while self._pending and _reached(self._pending[0][-1]):
            start, mixed, began, ended = self._pending.popleft()
            self._mixing.append(seconds(start, mixed))
            self._training.append(seconds(began, ended))


def _reached(mark: Mark) -> bool:
    return isinstance(mark, float) or mark.query()
