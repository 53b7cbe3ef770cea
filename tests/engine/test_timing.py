"""Seconds a row of the teacher's passes, by a clock that is told what time it is."""

import pytest
import torch

from supermix_pl.engine.stream import timing
from supermix_pl.engine.stream.timing import PassTimes


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    return clock


def test_the_median_of_the_last_passes_a_row(clock: Clock) -> None:
    times = PassTimes(torch.device("cpu"))
    assert times.per_row() is None
    for seconds, rows in ((8.0, 4), (3.0, 3), (900.0, 1), (5.0, 5), (12.0, 6)):
        with times.measure(rows):
            clock.now += seconds
        clock.now += 50.0  # between two passes no time is counted
    assert times.per_row() == 2.0
    for _ in range(32):  # older ones are forgotten
        with times.measure(2):
            clock.now += 14.0
    assert times.per_row() == 7.0


def test_passes_of_nothing_are_not_counted(clock: Clock) -> None:
    times = PassTimes(torch.device("cpu"))
    with times.measure(0):
        clock.now += 5.0
    assert times.per_row() is None


def test_a_pass_that_fails_is_not_counted(clock: Clock) -> None:
    times = PassTimes(torch.device("cpu"))
    with pytest.raises(ZeroDivisionError), times.measure(3):
        raise ZeroDivisionError
    assert times.per_row() is None
