"""The study of few images: which runs, in which order, a row each, and that it goes on where it was."""

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from supermix_pl.experiments import few_images
from supermix_pl.experiments.few_images import ARMS, COLUMNS, Job
from supermix_pl.experiments.networks import resnet8

TINY = [
    *("data=shapes", "data.train_size=60", "data.test_size=20", "data.eval_batch_size=10", "network=resnet8"),
    *("protocol.steps=3", "protocol.batch_size={natural: 8, extended: 4}", "num_mixes=8"),
    *("teacher=fitted", "network@teacher.network=resnet8", "teacher.epochs=1", "teacher.progress=false"),
]


def job(folder: Path, **changes: Any) -> Job:
    return Job(**{"runs": folder, "arm": "kd", "images": "10", "seed": 1, **changes})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Leave what a training leaves, in no time; the commands that were started."""
    started: list[list[str]] = []

    class Done:
        returncode = 0

    def run(command: list[str], **_: Any) -> Done:
        if command[0] != sys.executable:  # git
            return original(command, **_)
        started.append(command)
        folder = Path(next(each for each in command if each.startswith("hydra.run.dir=")).partition("=")[2])
        metrics = {name: 1.5 for name in few_images._MEASURED.values() if name != "supermix/holds"}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return Done()

    original: Any = subprocess.run
    monkeypatch.setattr(few_images.subprocess, "run", run)
    measured = {"accuracy": 0.25, "calibration_error": 0.125, "nll": 2.0}
    monkeypatch.setattr(few_images, "open_run", lambda folder: (folder, None))
    monkeypatch.setattr(few_images, "quality", lambda network, data: dict(measured))
    return started


def test_a_run_is_the_experiment_with_its_arm(tmp_path: Path) -> None:
    command = job(tmp_path, arm="half", overrides=("network=wrn_16_2", "data.folder=x")).command()
    assert command[command.index("experiment=few_images") :] == [
        "experiment=few_images",
        "method=kd_all_half",
        "seed=1",
        f"hydra.run.dir={tmp_path}/10/half/{job(tmp_path, overrides=('network=wrn_16_2',)).folder.name}",
        "data.images_per_class=10",
        "trainer.enable_progress_bar=false",
        "network=wrn_16_2",
        "data.folder=x",
    ]
    assert "data.images_per_class=null" in job(tmp_path, images="all").command()


def test_places_do_not_tell_rows_apart_and_settings_do(tmp_path: Path) -> None:
    plain = job(tmp_path)
    placed = job(tmp_path, overrides=("data.folder=a", "teacher.checkpoint=b", "+paths.data_dir=c", "hydra.job.name=d"))
    other = job(tmp_path, overrides=("network=wrn_16_2", "data.folder=a", "mixer.k=3"))
    assert placed.key == plain.key == ("kd", "10", "1", "")
    assert placed.folder == plain.folder
    assert other.key == ("kd", "10", "1", "mixer.k=3 network=wrn_16_2")
    assert other.folder != plain.folder
    assert job(tmp_path, overrides=("mixer.k=3", "network=wrn_16_2")).folder == other.folder


def test_order_and_number_of_runs(tmp_path: Path) -> None:
    found = list(few_images.jobs(tmp_path, arms=["kd", "mixup"], images=["10", "50"], seeds=[1, 2], overrides=[]))
    assert [(each.images, each.seed, each.arm) for each in found] == [
        (images, seed, arm) for images in ("10", "50") for seed in (1, 2) for arm in ("kd", "mixup")
    ]


def test_a_row_a_run_and_none_twice(
    tmp_path: Path, trained: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "rows.csv"
    arguments = [str(output), "--arms", "kd", "mixup", "--images", "10", "--seeds", "1", "2", "data.folder=x"]
    few_images.main(arguments)
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["arm"], row["seed"]) for row in rows] == [("kd", "1"), ("mixup", "1"), ("kd", "2"), ("mixup", "2")]
    assert (rows[0]["accuracy"], rows[0]["nll"], rows[0]["holds"], rows[0]["seconds"]) == ("0.25", "2", "", "1.5")
    assert rows[0]["machine"].startswith("CPU ")
    assert capsys.readouterr().out.endswith("4 of 4 rows in " + str(output) + "\n")
    few_images.main(arguments)
    few_images.main([*arguments, "--arms", "kd"])
    assert len(trained) == 4
    few_images.main([*arguments, "--seeds", "3", "network=wrn_16_2", "--arms", "kd"])
    assert len(trained) == 5
    assert len(few_images.read(output)) == 5


def test_what_was_trained_and_not_measured_is_not_trained_again(tmp_path: Path, trained: list[list[str]]) -> None:
    output = tmp_path / "rows.csv"
    assert few_images.run(job(tmp_path), output)
    output.unlink()  # as if it had been stopped before its row
    assert few_images.run(job(tmp_path), output)
    assert len(trained) == 1
    assert len(few_images.read(output)) == 1


def test_runs_of_other_processes_are_left_to_them(
    tmp_path: Path, trained: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    job(tmp_path).folder.mkdir(parents=True)
    with FileLock(job(tmp_path).folder / "lock"):
        assert few_images.run(job(tmp_path), tmp_path / "rows.csv")
    assert "another process is at it" in capsys.readouterr().out
    assert trained == []
    assert few_images.run(job(tmp_path), tmp_path / "rows.csv")
    assert len(trained) == 1


def test_a_run_that_fails_is_told_and_the_others_go_on(
    tmp_path: Path, trained: list[list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = few_images._train
    monkeypatch.setattr(few_images, "_train", lambda each: each.arm != "kd" and train(each))
    with pytest.raises(SystemExit):
        few_images.main([str(tmp_path / "rows.csv"), "--arms", "kd", "mixup", "--seeds", "1"])
    assert capsys.readouterr().out.endswith(f"1 of 2 rows in {tmp_path}/rows.csv\n")
    assert len(trained) == 1


def test_a_failed_training_leaves_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = job(tmp_path, overrides=("data.folder=nowhere", "no.such.key=1"))
    assert not few_images.run(broken, tmp_path / "rows.csv")
    assert f"failed: {broken.folder}, see {broken.folder}/log.txt" in capsys.readouterr().err
    assert "no.such.key" in (broken.folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "magic"], "invalid choice: 'magic'"),
        (["--images", "0"], "expected --images as numbers >= 1 or all, got 0"),
        (["--seeds", "-1"], "expected --seeds as integers >= 0, got -1"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        few_images.main(["rows.csv", *arguments, "--dry-run"])
    assert message in capsys.readouterr().err


def test_another_table_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"expected the columns arm, images, seed, .*, got a, b: give another file"):
        few_images.main([str(tmp_path / "rows.csv"), "--dry-run"])


def test_what_is_left_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few_images.main([str(tmp_path / "rows.csv"), "--seeds", "1", "--dry-run"])
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [next(each for each in command if each.startswith("method=")) for command in commands] == [
        f"method={method}" for method in ARMS.values()
    ]


@pytest.mark.parametrize("arms", [["supermix"], pytest.param(list(ARMS), marks=pytest.mark.slow)], ids=["one", "all"])
def test_arms_run(tmp_path: Path, arms: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output = tmp_path / "rows.csv"
    few_images.main([str(output), "--arms", *arms, "--images", "3", "--seeds", "1", *TINY])
    rows = {row["arm"]: row for row in few_images.read(output)}
    assert list(rows) == arms
    for arm, row in rows.items():
        assert (row["steps"], row["samples"], row["images"]) == ("3", "24", "3")
        assert (row["holds"] == "") == (arm in ("kd", "kd_randaugment", "plain"))
        natural, shown = ("8", "0") if arm in ("kd", "kd_randaugment") else ("", "")
        if natural:
            assert (row["teacher_forwards"], row["teacher_backwards"]) == (natural, shown)
    if "supermix_fixed" in rows:  # label 4 natural images and 4 views a step
        assert float(rows["supermix_fixed"]["teacher_forwards"]) == pytest.approx(8, abs=0.5)
        assert len(list((tmp_path / "cache" / "supermix_pl" / "mixes").iterdir())) == 2  # the control shares
    network = resnet8(10)
    network.load_state_dict(torch.load(next(tmp_path.glob("rows/**/weights.pth")), weights_only=True)["model"])
