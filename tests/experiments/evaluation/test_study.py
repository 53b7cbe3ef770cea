"""The study's runs: which, in which order, and that it goes on where it was."""

import json
from pathlib import Path

import pytest

from supermix_pl.experiments import study
from supermix_pl.experiments.shared.runs import evaluations

CONF = Path(__file__).resolve().parents[3] / "conf"


def test_the_methods_have_configs() -> None:
    assert {f"{method}.yaml" for method in study.METHODS} <= {path.name for path in (CONF / "method").iterdir()}
    assert len(set(study.METHODS)) == len(study.METHODS) == 15


def test_order_and_number_of_runs(tmp_path: Path) -> None:
    found = list(study.jobs(tmp_path, images=["50", "all"], methods=study.METHODS, seeds=[0, 1, 2]))

    assert [job.images for job in found] == ["50"] * 45 + ["all"] * 39  # the batch engine would take days on all images
    assert [job.seed for job in found[:45]] == [0] * 15 + [1] * 15 + [2] * 15
    assert len({job.folder for job in found}) == len(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "25"], "expected --images out of 50,10,all, got 25"),
        (["--methods", "kd,magic"], "expected --methods out of plain,kd,"),
        (["--seeds", "0,a"], "expected --seeds as integers >= 0, such as 0,1,2, got 0,a"),
        (["--jobs", "0"], "expected --jobs >= 1, got 0"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        study.main(["study", *arguments, "--dry-run"])
    assert message in capsys.readouterr().err


def test_overrides_stand_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = ["--images", "50", "--methods", "kd", "--seeds", "0"]
    study.main([str(tmp_path), *only, "network=resnet20", "--dry-run"])
    study.main([str(tmp_path), "network=resnet20", *only, "--dry-run"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.endswith("network=resnet20")


def test_a_stopped_run_resumes(tmp_path: Path) -> None:
    job = study.Job(folder=tmp_path, method="kd", images="all", seed=3)
    command = job.command(["network=resnet20"])
    assert command[command.index("experiment=study") :] == [
        "experiment=study",
        "method=kd",
        "seed=3",
        f"hydra.run.dir={tmp_path}",
        "data.images_per_class=null",
        "scale.epochs=0.00833333",
        "num_mixes=5000",
        "trainer.enable_progress_bar=false",
        "network=resnet20",
    ]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert job.command([])[-1] == f"ckpt_path={tmp_path}/checkpoints/last.ckpt"


def test_what_is_finished_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "10" / "kd" / "0"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("{}")
    (folder / evaluations.FILE).write_text(json.dumps({"settings": {}, "training": evaluations.training_id(folder)}))
    monkeypatch.setattr(study.subprocess, "run", lambda *_, **__: pytest.fail("started a process"))

    study.main([str(tmp_path), "--images", "10", "--methods", "kd", "--seeds", "0"])
    assert capsys.readouterr().out == f"1 of 1 runs in {tmp_path}\n"

    study.main([str(tmp_path), "--images", "10", "--methods", "kd,plain", "--seeds", "0", "--dry-run"])
    assert [line.split("method=")[1].split()[0] for line in capsys.readouterr().out.splitlines()] == ["plain"]


def test_a_run_that_fails_is_told_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        study.Job, "command", lambda job, _: [study.sys.executable, "-c", f"exit({job.method == 'kd':d})"]
    )
    monkeypatch.setattr(study.evaluate, "__name__", "this")
    with pytest.raises(SystemExit):
        study.main([str(tmp_path), "--images", "10", "--methods", "kd,plain", "--seeds", "0"])
    out, err = capsys.readouterr()
    assert out.endswith(f"1 of 2 runs in {tmp_path}\n")
    assert err == f"failed: {tmp_path}/10/kd/0, see {tmp_path}/10/kd/0/log.txt\n"
