"""How long mixing and the rest of a training step take, without waiting for the device."""

from collections import deque
from itertools import dropwhile
from statistics import fmean, median

import torch

from supermix_pl.engine.stream.timing import Mark, mark, seconds

_REMEMBERED = 64


class Stopwatch:
    """Times the mixing of a batch and its training step, on the device's own clock where that is a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[Mark] = []
        self._steps: deque[list[Mark]] = deque(maxlen=_REMEMBERED)  # start and end of the mixing, and of the training

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
            self._steps.append(self._marks)
            self._marks = []

    def recent(self, steps: int) -> tuple[float, float] | None:
        """Return the mean seconds of mixing and of training of the newest steps that the device has finished."""
        finished = [*dropwhile(lambda marks: not _reached(marks[-1]), reversed(self._steps))][:steps]
        if not finished:
            return None
        mixing, training = (fmean(seconds(marks[at], marks[at + 1]) for marks in finished) for at in (0, 2))
        return mixing, training

    def training_seconds(self) -> float | None:
        """Return the median time of the training steps that were seen; waits for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return median(seconds(began, ended) for *_, began, ended in self._steps) if self._steps else None


def _reached(mark: Mark) -> bool:
    return isinstance(mark, float) or mark.query()
