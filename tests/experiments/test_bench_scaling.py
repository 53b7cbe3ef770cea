"""The scaling's benchmark: what its series vary, and the command end to end on embedded data with a small network."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from supermix_pl import SuperMix
from supermix_pl.experiments.bench import scaling, scaling_arguments
from supermix_pl.experiments.bench.gpu_subjects import calibrate
from supermix_pl.experiments.bench.scaling_settings import FAST, PAPER, Setting, vary_main
from supermix_pl.experiments.bench.subject import Subject
from supermix_pl.transforms import RandomCropFlip

SUBJECT = Subject(
    network="resnet8",
    checkpoint=None,
    data="shapes",
    split="test",
    num_images=8,
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
)
VIEW = RandomCropFlip()
MIXER = SuperMix(max_steps=3, pairing="distinct")
BASE = Setting(network="resnet8", subject=SUBJECT, mixer=MIXER, batch_size=8, view=VIEW)


def test_a_series_varies_one_thing() -> None:
    points = vary_main(BASE, ks=[2, 4], mask_sizes=[8, 16], batches=[4, 8, 12])
    found = {(point.variable, point.value): point.setting for point in points}
    assert found["k", 2] == found["batch", 8] == BASE
    assert found["mask_size", 8] == replace(BASE, mask_size=8)
    assert found["k", 4] == replace(BASE, mixer=replace(BASE.mixer, k=4))
    assert found["mask_size", 16] == replace(BASE, mixer=replace(MIXER, mask_size=16, sigma=2.0), mask_size=16)
    assert found["batch", 4] == replace(BASE, batch_size=4)
    assert found["batch", 12] == replace(BASE, batch_size=12, subject=replace(SUBJECT, num_images=12))


def test_the_fast_solver_is_for_the_same_sets() -> None:
    mixer = replace(MIXER, k=3, mask_size=16, sigma=2.0)
    solvers = replace(BASE, mixer=mixer).solvers()
    assert solvers == {PAPER: mixer, FAST: SuperMix.fast(k=3)}
    fast = replace(BASE, mask_size=4).solvers()[FAST]
    assert fast == SuperMix.fast(mask_size=4, sigma=SuperMix.fast().sigma * 4 / max(SuperMix.fast().mask_grid))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network whose predictions differ from image to image: calibrated, not trained."""
    teacher, images = SUBJECT.open(torch.device("cpu"))
    calibrate(teacher, images)
    path = tmp_path_factory.mktemp("teacher") / "small.pth"
    torch.save({"model": teacher.module.state_dict()}, path)
    return path


def run(folder: Path, checkpoint: Path, *more: str) -> tuple[str, dict[str, Any]]:
    teacher = f"cifar:{checkpoint}:resnet8"
    small = ["--teacher", teacher, "--data", "shapes", "--size-teacher", teacher, "--size-data", "shapes"]
    small += ["--ks", "2", "3", "--mask-sizes", "4", "8", "--batches", "4", "8", "--sets", "8", "--sizes", "40"]
    scaling.main([*small, "--size-sets", "4", "--max-steps", "1", "--output", str(folder), *more])
    written = folder / "scaling_cpu"
    return written.with_suffix(".md").read_text(), json.loads(written.with_suffix(".json").read_text())


@pytest.mark.slow
def test_end_to_end(tmp_path: Path, checkpoint: Path) -> None:
    text, content = run(tmp_path, checkpoint, "--seeds", "0", "5")
    rows = {(row["variable"], row["value"], row["solver"]): row for row in content["rows"]}
    values = {"k": [2, 3], "size": [32, 40], "mask_size": [4, 8], "batch": [4, 8]}
    assert list(rows) == [
        (name, value, solver) for name in values for value in values[name] for solver in (PAPER, FAST)
    ]
    for solver in (PAPER, FAST):
        base = rows["k", 2, solver]
        for same in (("size", 32), ("batch", 8)):
            assert rows[*same, solver]["trials"] == base["trials"]
        masks = [trial["softness"] for trial in rows["mask_size", 8, solver]["trials"]]
        assert (masks == [trial["softness"] for trial in base["trials"]]) == (solver == PAPER)
        assert rows["batch", 4, solver]["peak_bytes"] < base["peak_bytes"] < rows["k", 3, solver]["peak_bytes"]
    assert "## Against sources in a set, k" in text
    assert "| 40 | resnet8 | fast | 4 |" in text
    assert content["provenance"]["seeds"] == [0, 5]
    assert str(checkpoint.parent) not in text
    with Image.open(tmp_path / "scaling_cpu.png") as picture:
        assert picture.width > 1000


def test_numbers_agree_with_a_call_of_the_mixer(checkpoint: Path) -> None:
    setting = replace(BASE, subject=replace(SUBJECT, checkpoint=str(checkpoint)), batch_size=4)
    found = scaling.measure([setting], [7], torch.device("cpu"), lambda _: None)
    teacher, images = setting.subject.open(torch.device("cpu"))
    for name, mixer in setting.solvers().items():
        mixes = [mixer(teacher, batch, seed=(7, number), view=VIEW) for number, batch in enumerate(images.split(4))]
        (trial,) = found[setting, name].trials
        kept = [mix.source_classes[:, 0] != mix.source_classes[:, 1] for mix in mixes]
        assert trial.sets == 8
        assert trial.attempted == sum(int(rows.sum()) for rows in kept) > 0
        assert trial.solved == sum(
            int(mix.holds[rows].sum()) for mix, rows in zip(mixes, kept, strict=True) if mix.holds is not None
        )
        if trial.attempted == 8:
            assert trial.forwards == sum(mix.teacher_forwards - mix.label_forwards for mix in mixes)
        assert asdict(trial)["seconds"] > 0


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--ks", "3", "1"], "expected --ks >= 2, got 1"),
        (["--sets", "5"], "expected --sets >= 6, got 5"),
        (["--batches", "1"], "expected --batches >= 2, got 1"),
        (["--sets", "9", "--batches", "8"], "got 9 in batches of 8"),
        (["--mask-sizes", "0"], "expected --mask-sizes >= 1, got 0"),
        (["--seeds", "-1"], "expected --seeds >= 0, got -1"),
        (["--max-steps", "0"], "expected --max-steps >= 1, got 0"),
        (["--data", "nowhere"], "expected Parquet shards in nowhere, found none"),
        (["--teacher", "cifar:none.pth:resnet8"], "found no such file"),
        (["--device", "gpu"], "expected --device cpu"),
        (["--variables", "colour"], "invalid choice: 'colour'"),
    ],
)
def test_bad_arguments(command_line: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--teacher", "cifar:untrained:resnet8", "--data", "shapes", "--size-data", "shapes"]
    small += ["--size-teacher", "cifar:untrained:resnet8"]
    with pytest.raises(SystemExit) as stop:
        scaling_arguments.parse([*small, *command_line], "program")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
