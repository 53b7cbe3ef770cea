"""The memory of a run, step by step, and what is made of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from supermix_pl.experiments.bench import endurance
from supermix_pl.experiments.bench.endurance import Course

SMALL = ["--steps", "12", "--settle", "4", "--images", "20", "--batch-size", "8", "--teacher-steps", "2"]


@pytest.mark.filterwarnings("ignore:None of the . sets of a batch was solved:UserWarning")
@pytest.mark.parametrize("engine", ["stream", pytest.param("batch", marks=pytest.mark.slow)])
def test_a_short_run(tmp_path: Path, engine: str) -> None:
    endurance.main([*SMALL, "--engine", engine, "--threads", "1", "--output", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {f"{engine}_cpu.md", f"{engine}_cpu.json"}
    written: dict[str, Any] = json.loads((tmp_path / f"{engine}_cpu.json").read_text())
    (course,) = written["courses"]
    assert course["where"] == "resident"
    assert len(course["held"]) == 2  # of twelve, every tenth
    assert 2**26 < course["start"] <= course["most"]
    assert course["growth"] == pytest.approx(100 * (course["most"] / course["start"] - 1))
    assert written["settings"]["steps"] == 12
    assert ("supermix/uses" in written["metrics"]) == (engine == "stream")
    assert f"| {course['start'] / 2**20:.1f} |" in (tmp_path / f"{engine}_cpu.md").read_text()


def test_growth_and_slope() -> None:
    flat = [500, 900, *(100 * [1000])]
    leaking = [500, 900, *(1000 + step for step in range(100))]
    assert Course(where="resident", held=flat, settled=2).growth == 0
    course = Course(where="resident", held=leaking, settled=2)
    assert course.start == 1024.5
    assert course.growth == pytest.approx(100 * (1099 / 1024.5 - 1))
    assert course.slope == pytest.approx(1)
    assert course.row()[-1] == "growth % <= 2: missed"


def test_a_spike_counts() -> None:
    held = 100 * [1000]
    held[70] = 1021
    assert Course(where="device", held=held, settled=10).growth == pytest.approx(2.1)
    held[70], held[5] = 1019, 5000
    assert Course(where="device", held=held, settled=10).row()[-1] == "growth % <= 2: met"


def test_memory_that_is_held_is_seen() -> None:
    before = endurance.resident_bytes()
    held = torch.ones(2**26)  # more than what this process has at hand from earlier tests
    assert endurance.resident_bytes() - before > 0.9 * held.nbytes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--steps", "100"], "expected --steps >= 202, got 100"),
        (["--threads", "0"], "expected --threads >= 1, got 0"),
        (["--engine", "none"], "invalid choice: 'none'"),
    ],
)
def test_what_makes_no_sense(capsys: pytest.CaptureFixture[str], given: list[str], message: str) -> None:
    with pytest.raises(SystemExit):
        endurance.main(given)
    assert message in capsys.readouterr().err
