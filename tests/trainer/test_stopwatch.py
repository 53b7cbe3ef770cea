"""Times of steps on the host's clock."""

import time

import pytest
import torch

from supermix_pl.trainer.stopwatch import Stopwatch


def test_recent_steps_are_told_as_means(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    watch = Stopwatch(torch.device("cpu"))
    assert watch.recent(2) is None
    for mixing, training in ((9.0, 90.0), (1.0, 10.0), (5.0, 20.0)):
        watch.start()
        clock[0] += mixing
        watch.mixed()
        watch.trained()
        clock[0] += training
        watch.trained()
    assert watch.recent(1) == (5, 20)
    assert watch.recent(2) == (3, 15)
    assert watch.recent(100) == (5, 40)


def test_nothing_piles_up_where_nobody_asks() -> None:
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(200):
        watch.start()
        watch.mixed()
        watch.trained()
        watch.trained()
    assert len(watch._steps) < 100
