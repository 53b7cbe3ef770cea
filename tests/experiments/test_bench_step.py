"""The step's benchmark: what it compares, and the command end to end on embedded data with a small network."""

import json
from pathlib import Path

import pytest

from supermix_pl import SuperMix
from supermix_pl.engine import StreamEngine
from supermix_pl.experiments.bench import step
from supermix_pl.experiments.bench.step_training import NAMES, REFERENCE, contenders

SMALL = ["--network", "resnet8", "--data", "shapes", "--images", "16", "--batch-size", "8", "--precision", "fp32"]


@pytest.mark.parametrize("engine", ["stream", "batch"])
def test_the_fast_solver_keeps_its_own_smoothing(engine: str) -> None:
    options = step.parse(["--k", "3", "--mask-size", "16", "--sigma", "2.5", "--contenders", *NAMES])
    mixers = {contender.name: contender.mixer for contender in contenders(options, 10)}
    assert mixers[f"{engine}, fast"] == SuperMix.fast(k=3, mask_size=16)
    assert mixers[f"{engine}, paper's solver"] == SuperMix(k=3, mask_size=16, sigma=2.5)


def test_the_reference_needs_no_teacher_and_comes_first() -> None:
    first, second = contenders(step.parse(["--contenders", "stream, fast"]), 10)
    assert (first.name, first.labelled, second.name, second.labelled) == (REFERENCE, False, "stream, fast", True)


def test_rows_side_by_side(tmp_path: Path) -> None:
    contender = NAMES[0]
    step.main([*SMALL, "--steps", "2", "--blocks", "3", "--contenders", contender, "--output", str(tmp_path)])
    timings = json.loads((tmp_path / "step_cpu_fp32.json").read_text())["timings"]
    assert list(timings) == [REFERENCE, contender]
    for timing in timings.values():
        assert [len(block) for block in timing["mixing"]] == [len(block) for block in timing["training"]] == [2, 2, 2]
        assert timing["fresh"] == [8.0] * 6
    text = (tmp_path / "step_cpu_fp32.md").read_text()
    assert f"| {REFERENCE} |" in text
    assert f"| {contender} |" in text


def test_a_block_has_whole_periods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = StreamEngine.__init__
    monkeypatch.setattr(StreamEngine, "__init__", lambda engine, **_: make(engine, slots=8, every_n_steps=3))
    step.main([*SMALL, "--steps", "2", "--blocks", "1", "--contenders", "8 uses, fast", "--output", str(tmp_path)])
    timings = json.loads((tmp_path / "step_cpu_fp32.json").read_text())["timings"]
    assert {name: [len(block) for block in timing["mixing"]] for name, timing in timings.items()} == {
        REFERENCE: [2],
        "8 uses, fast": [3],
    }
    assert "| 8 x 1 / 3 |" in (tmp_path / "step_cpu_fp32.md").read_text()


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--blocks", "0"], "expected --blocks >= 1, got 0"),
        (["--network", "my.module:net", "--data", "shapes"], "expected --student out of "),
        (["--student", "Classifier"], "got Classifier"),
        (["--images", "64"], "expected --images >= --batch-size, got 64 and 128"),
        (["--budget", "0"], "expected --budget > 0, got 0.0"),
        (["--sigma", "-1"], "expected --sigma >= 0, got -1.0"),
        (["--mask-size", "0"], "expected --mask-size >= 1, got 0"),
        (["--student", "resnet9"], "expected --student out of "),
    ],
)
def test_bad_arguments(command_line: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        step.parse(command_line)
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
