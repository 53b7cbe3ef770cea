"""What a run counts: on one device, over ranks, and after it was resumed."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from supermix_pl.experiments.record import RunRecorder, write_metrics


def step(recorder: RunRecorder, count: int, *, world_size: int = 1) -> None:
    trainer: Any = SimpleNamespace(world_size=world_size)
    module: Any = None
    recorder.on_train_batch_end(trainer, module, None, (torch.zeros(count, 1), None), 0)


def test_student_samples_are_those_of_all_ranks() -> None:
    recorder = RunRecorder(None)
    for count in (8, 8, 3):
        step(recorder, count, world_size=2)
    assert recorder.metrics()["student_samples"] == 38


def mixing_of(solved: int) -> Any:
    mix = SimpleNamespace(teacher_forwards=12, teacher_backwards=6, solved=torch.arange(4) < solved)
    return SimpleNamespace(mix=type("Mix", (SimpleNamespace,), {"__len__": lambda self: 4})(**vars(mix)))


def test_a_resumed_run_goes_on_counting() -> None:
    straight, first = RunRecorder(mixing_of(3)), RunRecorder(mixing_of(3))
    for _ in range(4):
        step(straight, 8)
    for _ in range(2):
        step(first, 8)
    state = first.state_dict()
    assert all(type(value) is int for value in state.values())  # loads with weights_only=True
    resumed = RunRecorder(mixing_of(3))
    resumed.load_state_dict(json.loads(json.dumps(state)))
    for _ in range(2):
        step(resumed, 8)
    timed = "ms_per_step"
    counts = [{name: value for name, value in each.metrics().items() if name != timed} for each in (straight, resumed)]
    assert counts[0] == counts[1]
    assert counts[0]["student_samples"] == 32
    assert counts[0]["supermix/solved_fraction"] == pytest.approx(0.75)
    assert counts[0]["supermix/teacher_forwards_per_mix"] == pytest.approx(3)


def test_metrics_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_metrics(tmp_path / "run", {"a": 1})
    with pytest.raises(TypeError):
        write_metrics(tmp_path / "run", {"a": object()})
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == {"a": 1}
