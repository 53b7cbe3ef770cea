"""The memory of a run, step by step, and what is made of it."""

from pathlib import Path

import pytest
import torch

from supermix_pl.experiments.bench import endurance
from supermix_pl.experiments.bench.endurance import Course, EnduranceSettings
from tests.experiments.bench.small import settings, written

SMALL = ["bench.steps=12", "bench.settle=4", "bench.images=20", "bench.batch_size=8", "bench.teacher_steps=2"]


@pytest.mark.filterwarnings("ignore:None of the . sets of a batch was solved:UserWarning")
@pytest.mark.parametrize("engine", ["stream", pytest.param("batch", marks=pytest.mark.slow)])
def test_a_short_run(tmp_path: Path, engine: str, unchecked: None) -> None:
    endurance.main([*SMALL, f"bench.engine={engine}", "bench.threads=1", f"bench.folder={tmp_path}"])
    assert {path.name for path in tmp_path.iterdir()} == {f"{engine}_cpu.md", f"{engine}_cpu.json"}
    text, content = written(tmp_path)
    (course,) = content["courses"]
    assert course["where"] == "resident"
    assert len(course["held"]) == 2  # of twelve, every tenth
    assert 2**26 < course["start"] <= course["most"]
    assert course["growth"] == pytest.approx(100 * (course["most"] / course["start"] - 1))
    assert ("supermix/uses" in content["metrics"]) == (engine == "stream")
    assert f"| {course['start'] / 2**20:.1f} |" in text
    assert content["peaks"]["solver"] > content["peaks"]["bare"] > 0


def test_growth_and_slope() -> None:
    flat = [500, 900, *(100 * [1000])]
    leaking = [500, 900, *(1000 + step for step in range(100))]
    assert Course(where="resident", held=flat, settled=2).numbers()["growth"] == 0
    found = Course(where="resident", held=leaking, settled=2).numbers()
    assert found["start"] == 1024.5
    assert found["growth"] == pytest.approx(100 * (1099 / 1024.5 - 1))
    assert found["slope"] == pytest.approx(1)


def test_a_spike_counts() -> None:
    held = 100 * [1000]
    held[70] = 1021
    assert Course(where="device", held=held, settled=10).numbers()["growth"] == pytest.approx(2.1)
    held[70], held[5] = 1019, 5000
    assert endurance.GROWTH.met(Course(where="device", held=held, settled=10).numbers()["growth"])


def test_memory_that_is_held_is_seen() -> None:
    before = endurance.resident_bytes()
    held = torch.ones(2**26)  # more than what this process has at hand from earlier tests
    assert endurance.resident_bytes() - before > 0.9 * held.nbytes


@pytest.mark.parametrize(
    ("override", "message"),
    [("bench.steps=100", "bench.steps to be an integer >= 202, got 100"), ("bench.engine=none", "bench.engine")],
)
def test_what_makes_no_sense(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings("endurance", EnduranceSettings, override)
