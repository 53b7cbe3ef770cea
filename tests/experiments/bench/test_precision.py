"""The benchmark of precisions, end to end with a small network."""

from pathlib import Path

import pytest
import torch
from torch import nn

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench import precision
from supermix_pl.experiments.bench.precision import Trial, numbers
from tests.experiments.bench.small import SMALL, written
from tests.problems import SmoothTeacher, natural_images


def test_rows_side_by_side(tmp_path: Path) -> None:
    few = ["bench.sets=6", "bench.batch_size=4", "mixer.max_steps=2", "bench.seeds=[0,3]"]
    gone = [f"~bench.rows.fp32-folded{each}" for each in ("", "-channels_last", "-chunks")]
    precision.main([*SMALL, *few, *gone, "~bench.rows.bf16", f"bench.folder={tmp_path}"])
    text, content = written(tmp_path)
    first, row = content["rows"]
    assert [first["row"], row["row"]] == ["fp32", "bf16-folded-channels_last"]
    assert first["speed_up"] == first["equal_fraction"] == [1.0, 1.0]
    for number, (trial, base) in enumerate(zip(row["seeds"], first["seeds"], strict=True)):
        assert trial["cost"]["sets"] == 6
        assert row["speed_up"][number] == pytest.approx(base["cost"]["seconds"] / trial["cost"]["seconds"])
    assert "| bf16-folded-channels_last |" in text


def test_the_judge_sees_what_the_solver_saw() -> None:
    images, module = natural_images(10), SmoothTeacher()
    mix = SuperMix(mask_size=4, max_steps=8)(FrozenTeacher(module), images, seed=0)
    solved = int(mix.solved.sum())
    assert 0 < solved < len(mix)

    class Contrary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return -self.inner(images)

    trial = Trial()
    trial.count(mix, 2.0, FrozenTeacher(module), mix)
    assert (trial.cost.solved, trial.again, trial.equal) == (solved, solved, 10)
    trial.count(mix, 1.0, FrozenTeacher(Contrary()), mix)
    assert (trial.cost.solved, trial.again, trial.equal) == (2 * solved, solved, 20)
    assert trial.cost.seconds == 3.0
    assert numbers([trial], [trial])["again_fraction"] == [0.5]
