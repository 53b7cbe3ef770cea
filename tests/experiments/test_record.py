"""What a run counts: on one device, over ranks, and after it was resumed."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from supermix_pl import MixUp, SuperMixCallback
from supermix_pl.experiments.record import RunRecorder
from supermix_pl.solver import Outcome
from supermix_pl.trainer.rewriting import Rewritten
from tests.experiments.mixes.mixes_toys import SIZE, teacher_of


class Ranks(pl.Trainer):
    """A trainer of which only the number of processes is asked."""

    def __init__(self, count: int) -> None:
        self.count = count

    @property
    def world_size(self) -> int:
        return self.count


def step(recorder: RunRecorder, count: int, *, world_size: int = 1) -> None:
    recorder.on_train_batch_end(Ranks(world_size), pl.LightningModule(), None, (torch.zeros(count, 1), None), 0)


def test_student_samples_are_those_of_all_ranks() -> None:
    recorder = RunRecorder(None)
    for count in (8, 8, 3):
        step(recorder, count, world_size=2)
    assert recorder.metrics()["student_samples"] == 38


def mixing() -> SuperMixCallback:
    """Has mixed a batch of 4, of which 3 are solved, at the cost of 12 forwards."""
    teacher = teacher_of()
    callback = SuperMixCallback(teacher, MixUp())
    mix = callback.mixer(teacher, torch.randn(4, 3, SIZE, SIZE), seed=0)
    solved = torch.tensor([Outcome.SOLVED, Outcome.SOLVED, Outcome.CAPPED, Outcome.SOLVED])
    holds = torch.tensor([False, True, False, False])
    current = Rewritten(None, replace(mix, outcomes=solved, holds=holds, teacher_forwards=12))
    callback._fit = SimpleNamespace(current=current)  # pyright: ignore[reportAttributeAccessIssue]
    return callback


def test_all_passes_of_the_teacher_in_training_are_counted() -> None:
    teacher = teacher_of()
    images = torch.randn(4, 3, SIZE, SIZE)
    before = teacher(images)
    recorder = RunRecorder(None, teacher)
    recorder.on_train_start(Ranks(1), pl.LightningModule())
    teacher(images[:3])
    teacher(images.requires_grad_()).sum().backward()
    with torch.no_grad():
        assert torch.equal(teacher(images), before)
    for _ in range(2):
        step(recorder, 4)
    recorder.on_train_end(Ranks(1), pl.LightningModule())
    teacher(images)
    counted = recorder.metrics()
    assert (counted["teacher/forwards_per_step"], counted["teacher/backwards_per_step"]) == (5.5, 2)
    assert "prepare" not in vars(teacher)


def test_a_resumed_run_goes_on_counting() -> None:
    straight, first = RunRecorder(mixing()), RunRecorder(mixing())
    for _ in range(4):
        step(straight, 8)
    for _ in range(2):
        step(first, 8)
    state = first.state_dict()
    resumed = RunRecorder(mixing())
    resumed.load_state_dict(json.loads(json.dumps(state)))
    for _ in range(2):
        step(resumed, 8)
    timed = ("ms_per_step", "fit_seconds")
    counts = [
        {name: value for name, value in each.metrics().items() if name not in timed} for each in (straight, resumed)
    ]
    assert counts[0] == counts[1]
    assert counts[0]["student_samples"] == 32
    assert counts[0]["supermix/solved_fraction"] == pytest.approx(0.75)
    assert counts[0]["supermix/teacher_forwards_per_mix"] == pytest.approx(3)
    assert counts[0]["supermix/holds"] == pytest.approx(0.25)


def test_a_resumed_run_counts_the_time_before_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 4.0, 10.0, 11.0, 13.0])
    monkeypatch.setattr("supermix_pl.experiments.record.time.perf_counter", lambda: next(clock))
    first, resumed = RunRecorder(None), RunRecorder(None)
    for recorder in (first, resumed):
        recorder.on_train_start(Ranks(1), pl.LightningModule())
        for _ in range(2):
            step(recorder, 8)
        if recorder is first:
            resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))  # at 4 s
    monkeypatch.setattr("supermix_pl.experiments.record.time.perf_counter", lambda: 16.0)
    resumed.on_train_end(Ranks(1), pl.LightningModule())
    assert resumed.metrics() == {"fit_seconds": 10.0, "student_samples": 32, "ms_per_step": 2000}
