"""The step's benchmark: what it compares, what it counts, and the command end to end with a small network."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from supermix_pl import FrozenTeacher, MixUp, SuperMix
from supermix_pl.engine import BatchEngine, StreamEngine
from supermix_pl.experiments.bench import step
from supermix_pl.experiments.bench.step_training import (
    BATCH,
    CHEAP,
    RECOMMENDED,
    REFERENCE,
    STREAM,
    Timing,
    Training,
    contenders,
    stream,
)
from tests.problems import Counting

SMALL = ["--network", "resnet8", "--student", "resnet8", "--data", "shapes", "--images", "16", "--batch-sizes", "8"]
SMALL += ["--precision", "fp32", "--steps", "2", "--blocks", "2"]


def test_contenders_and_what_they_are() -> None:
    found = {each.name: each for each in contenders([RECOMMENDED, CHEAP, "reuse=24, sigma=2.0"], 3)}
    assert list(found) == [REFERENCE, STREAM, f"{STREAM}, {CHEAP}", f"{STREAM}, reuse=24, sigma=2.0", BATCH]
    assert found[REFERENCE].mixer == MixUp(k=3)
    assert found[STREAM].mixer == found[BATCH].mixer == SuperMix.fast(k=3)
    assert found[f"{STREAM}, {CHEAP}"].mixer == SuperMix.fast(k=3, max_steps=6)
    assert found[f"{STREAM}, reuse=24, sigma=2.0"].mixer == SuperMix.fast(k=3, sigma=2.0)
    engine = found[f"{STREAM}, reuse=24, sigma=2.0"].engine
    assert isinstance(engine, StreamEngine)
    assert engine.reuse == 24
    assert isinstance(found[BATCH].engine, BatchEngine)
    assert BATCH not in {each.name for each in contenders([], 2, with_batch=False)}


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, 5))


def batch(seed: int, size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, 16, 16, generator=chance), torch.randint(5, (size,), generator=chance)


@pytest.mark.parametrize(
    ("name", "forwards", "backwards"),
    [
        (REFERENCE, 1.0, 0.0),
        (STREAM, 1.5, 1.0),
        (f"{STREAM}, {CHEAP}", 1.0, 0.5),
        (BATCH, 13.0, 12.0),
    ],
)
def test_passes_a_shown_mix(name: str, forwards: float, backwards: float) -> None:
    """What the goals limit is what the teacher passes, natural images left out."""
    chosen = next(each for each in contenders([RECOMMENDED, CHEAP], 2) if each.name == name)
    counting = Counting(network())
    training = Training(chosen, network(1), FrozenTeacher(counting, fold=False), low_precision=False)
    training.warm_up([batch(0), batch(1)])
    counting.forwards = counting.backwards = 0
    training.block([batch(seed) for seed in range(4)])
    timing = training.timing
    assert counting.forwards == sum(timing.forwards) * 12 + 4 * 12
    assert counting.backwards == sum(timing.backwards) * 12
    assert sum(timing.forwards) / 4 == pytest.approx(forwards)
    assert sum(timing.backwards) / 4 == pytest.approx(backwards)
    assert len(timing.holds) == 4
    assert 0 < timing.mixing[0] < timing.seconds[0]
    assert timing.cpu[0] > 0


def test_a_student_learns_from_the_teachers_logits_of_every_row() -> None:
    chosen = stream("max_steps=2, reuse=4", 2)
    teacher, student = FrozenTeacher(network()), network(1)
    training = Training(chosen, student, teacher, low_precision=False)
    images, labels = batch(0)

    @torch.no_grad()
    def apart(student: nn.Module) -> float:
        return float((student(images) - teacher(images)).abs().mean())

    for _ in range(20):
        training.step(images, labels.flip(0))  # the labels are of no use
    assert apart(training._student) < 0.8 * apart(student)


def test_ratios_are_block_by_block() -> None:
    one, two = Timing(seconds=[2.0, 3.0], cpu=[3.0, 3.0]), Timing(seconds=[1.0, 6.0], cpu=[1.0, 2.0])
    assert one.ratios(two) == [2.0, 0.5]
    assert one.ratios(two, "cpu") == [3.0, 1.5]


def test_goals_are_for_the_streams_that_they_were_set_for() -> None:
    assert step.verdicts(STREAM, 1.4, 1.501, 1.0) == "ratio <= 1.45: met; forwards <= 1.5: met; backwards <= 1: met"
    cheap = step.verdicts(f"{STREAM}, {CHEAP}", 1.4, 1.0, 0.51)
    assert cheap == "ratio <= 1.25: missed; forwards <= 1: met; backwards <= 0.5: missed"
    assert step.verdicts(BATCH, 1.0, 1.0, 1.0) == step.verdicts("stream, reuse=24", 1.0, 1.0, 1.0) == "-"


def test_rows_side_by_side(tmp_path: Path) -> None:
    step.main([*SMALL, "--streams", "", "max_steps=2, reuse=4", "--output", str(tmp_path)])
    timings = json.loads((tmp_path / "step_cpu_fp32.json").read_text())["timings"]["8"]
    assert list(timings) == [REFERENCE, STREAM, f"{STREAM}, max_steps=2, reuse=4", BATCH]
    for name, timing in timings.items():
        assert len(timing["seconds"]) == len(timing["mixing"]) == len(timing["cpu"]) == 2
        assert len(timing["forwards"]) == 2 * (1 if name == BATCH else 2)
    text = (tmp_path / "step_cpu_fp32.md").read_text()
    assert "## 8 natural images and 8 mixes" in text
    for name in timings:
        assert f"| {name} |" in text


def test_auto_is_what_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda there=there: {"avx512_bf16": there})
        assert step.parse(["--data", "shapes", "--network", "resnet8"]).precision == precision


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--blocks", "0"], "expected --blocks >= 1, got 0"),
        (["--student", "Classifier"], "got Classifier"),
        (["--images", "64"], "expected --images >= --batch-sizes, got 64 and 128"),
        (["--batch-sizes", "1"], "expected --batch-sizes >= 2, got 1"),
        (["--streams", "reuse"], "expected NAME=VALUE, NAME=VALUE with plain values, got 'reuse'"),
        (["--streams", "reuse=0"], "expected reuse"),
        (["--streams", "colour='red'"], "unexpected keyword argument 'colour'"),
    ],
)
def test_bad_arguments(command_line: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        step.parse(["--network", "resnet8", "--data", "shapes", *command_line])
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
