"""Finding runs in folders: whole ones, half-written ones, and what is none."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from supermix_pl.experiments.shared.runs.folders import Problem, Run, find_runs, read_run
from tests.experiments.report.report_folders import write_run


def test_runs_are_found_at_any_depth_and_once(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name) for name in ("a", "sweep/0", "sweep/1/deep")]
    runs, problems = find_runs([tmp_path, tmp_path / "sweep"])
    assert [run.folder for run in runs] == folders
    assert problems == []


def test_a_folder_of_a_run_is_one_itself(tmp_path: Path) -> None:
    runs, _ = find_runs([write_run(tmp_path / "run", seed=3)])
    assert [run.seed for run in runs] == [3]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_run(tmp_path / "elsewhere" / "run")
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "top")
    runs, _ = find_runs([tmp_path / "top"])
    assert [run.folder for run in runs] == [tmp_path / "top" / "link" / "run"]


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        (None, "no metrics.json: stopped, or still running"),
        ("", "metrics.json cannot be used"),
        ('{"test/acc', "metrics.json cannot be used"),
        ("[]", "expected test/accuracy in [0, 1], got None"),
        ('{"seed": 0}', "expected test/accuracy in [0, 1], got None"),
        ('{"test/accuracy": 71.2, "seed": 0}', "expected test/accuracy in [0, 1], got 71.2"),
        ('{"test/accuracy": NaN, "seed": 0}', "expected test/accuracy in [0, 1], got nan"),
        ('{"test/accuracy": true, "seed": 0}', "expected test/accuracy in [0, 1], got True"),
        ('{"test/accuracy": 0.7, "seed": null}', "expected a whole number as seed, got None"),
    ],
)
def test_half_written_runs_are_named(tmp_path: Path, metrics: str | None, reason: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "metrics.json").unlink()
    if metrics is not None:
        (folder / "metrics.json").write_text(metrics)
    runs, problems = find_runs([tmp_path])
    assert runs == []
    assert [problem.folder for problem in problems] == [folder]
    assert reason in problems[0].reason
    assert "\n" not in problems[0].reason


@pytest.mark.parametrize(
    ("config", "reason"),
    [("", "config.yaml is empty"), ("a: [1, 2", "config.yaml cannot be read"), ("b\x00", "config.yaml cannot be read")],
)
def test_damaged_configs_are_named(tmp_path: Path, config: str, reason: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "config.yaml").write_text(config)
    _, problems = find_runs([tmp_path])
    assert reason in problems[0].reason


def test_configs_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("wandb_version: 1\n")
    assert read_run(tmp_path) is None
    (tmp_path / "metrics.json").write_text("{}")
    problem = read_run(tmp_path)
    assert isinstance(problem, Problem)
    assert "without a network" in problem.reason


def test_seed_of_the_config_where_metrics_have_none(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", seed=7)
    (folder / "metrics.json").write_text(json.dumps({"test/accuracy": 0.5}))
    run = read_run(folder)
    assert isinstance(run, Run)
    assert run.seed == 7


def test_folders_that_cannot_be_listed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "secret").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    runs, problems = find_runs([tmp_path])
    assert len(runs) == 1
    assert problems == [Problem(folder=tmp_path / "secret", reason="cannot be listed (Permission denied)")]


def test_no_runs_and_no_folders_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected runs .* in .*, found none$"):
        find_runs([tmp_path])
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"got no such folder as .*/runs, .*/file$"):
        find_runs([tmp_path / "runs", tmp_path, tmp_path / "file"])
