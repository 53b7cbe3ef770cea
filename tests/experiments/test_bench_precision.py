"""The benchmark of precisions, end to end on the embedded data with a small network."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench import precision
from supermix_pl.experiments.bench.precision import Result, Trial
from tests.problems import NUM_CLASSES, SmoothTeacher, natural_images

SMALL = ["--network", "resnet8", "--data", "shapes", "--images", "6", "--batch-size", "4", "--max-steps", "2"]


def run(folder: Path, *more: str) -> tuple[str, dict]:
    precision.main([*SMALL, "--threads", "1", "--output", str(folder), *more])
    written = folder / "precision_cpu"
    return written.with_suffix(".md").read_text(), json.loads(written.with_suffix(".json").read_text())


def test_rows_side_by_side(tmp_path: Path) -> None:
    text, content = run(tmp_path, "--rows", precision.CANDIDATE, "--seeds", "0", "3")
    baseline, row = content["rows"]
    assert [baseline["row"], row["row"]] == [precision.BASELINE, precision.CANDIDATE]
    assert baseline["speed_up"] == [1.0, 1.0]
    assert baseline["equal_share"] == [1.0, 1.0]
    assert baseline["points_apart"] in (0.0, None)
    assert baseline["targets"] == []
    assert len(row["targets"]) == 3
    for number, (trial, base) in enumerate(zip(row["trials"], baseline["trials"], strict=True)):
        assert trial["seed"] == (0, 3)[number]
        assert trial["sets"] == 6
        assert row["speed_up"][number] == pytest.approx(base["seconds"] / trial["seconds"])
    assert "| bf16-folded-channels_last |" in text
    assert "speed-up >= 1.5" in text


def test_the_judge_sees_what_the_solver_saw() -> None:
    images = natural_images(10)
    module = SmoothTeacher()
    mix = SuperMix(mask_size=4, max_steps=8)(FrozenTeacher(module), images, seed=0)
    assert 0 < mix.solved.sum() < len(mix)
    assert precision.passes_again(mix, module).equal(mix.solved)

    class Contrary(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return -module(images)

    assert not precision.passes_again(mix, Contrary()).any()
    trial = Trial(seed=0)
    trial.count(mix, 2.0, 2, module, mix)
    trial.count(mix, 1.0, 2, Contrary(), mix)
    assert trial.seconds == 3.0
    assert trial.forwards == 2 * mix.teacher_forwards
    assert (trial.sets, trial.equal) == (20, 20)
    assert trial.retested == int(mix.solved.sum()) == trial.solved / 2
    assert module(images).shape == (10, NUM_CLASSES)


def test_the_targets_are_for_one_row() -> None:
    def trials(seconds: float, solved: int, retested: int) -> list[Trial]:
        counts = {"sets": 100, "attempted": 100, "attempted_solved": solved, "solved": solved, "retested": retested}
        return [Trial(seed=seed, seconds=seconds, **counts) for seed in range(3)]

    baseline = trials(3.0, 80, 80)
    good = Result(name=precision.CANDIDATE, trials=trials(1.9, 81, 80), baseline=baseline)
    assert [verdict.rpartition(": ")[2] for verdict in good.verdicts()] == ["met"] * 3
    assert good.points_apart() == pytest.approx(1.0)
    bad = Result(name=precision.CANDIDATE, trials=trials(2.1, 78, 75), baseline=baseline)
    assert [verdict.rpartition(": ")[2] for verdict in bad.verdicts()] == ["missed"] * 3
    assert Result(name="bf16", trials=trials(1.0, 80, 80), baseline=baseline).verdicts() == []


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--batch-size", "1"], "expected --batch-size >= 2, got 1"),
        (["--batch-size", "5"], "got a last one of 1"),
        (["--max-steps", "0"], "expected --max-steps >= 1, got 0"),
        (["--seeds", "-1"], "expected --seeds >= 0, got -1"),
        (["--threads", "0"], "expected --threads >= 1, got 0"),
        (["--rows", "fp16"], "invalid choice: 'fp16'"),
    ],
)
def test_bad_arguments(command_line: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        precision.main([*SMALL, *command_line])
    assert message in capsys.readouterr().err
