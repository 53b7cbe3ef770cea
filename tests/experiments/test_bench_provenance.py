"""Where numbers come from, and the tables that they are in."""

import platform
import subprocess
from pathlib import Path

import pytest
import torch

from supermix_pl.experiments.bench import provenance
from supermix_pl.experiments.bench.tables import Summary, Table, Target, mean_cell, median_cell


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "program.py").write_text("print()\n")
    git(folder, "add", "program.py")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def test_clean_checkout(checkout: Path) -> None:
    assert provenance.git_state(checkout / "program.py") == (git(checkout, "rev-parse", "HEAD"), False)


def test_results_leave_a_checkout_clean(checkout: Path) -> None:
    results = checkout / "experiments" / "results"
    results.mkdir(parents=True)
    (results / "solver_cpu.md").write_text("numbers\n")
    assert provenance.git_state(checkout / "program.py")[1] is False


@pytest.mark.parametrize("name", ["program.py", "new.py", "experiments/new.py"])
def test_changed_and_new_files_make_it_dirty(checkout: Path, name: str) -> None:
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text("print(1)\n")
    assert provenance.git_state(checkout / "program.py")[1] is True


def test_no_checkout(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("")
    assert provenance.git_state(tmp_path / "program.py") == (None, None)
    installed = checkout / "environment" / "program.py"
    installed.parent.mkdir()
    installed.write_text("")
    assert provenance.git_state(installed) == (None, None), "somebody else's checkout"


def test_no_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state(checkout / "program.py") == (None, None)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--seeds", "--seeds"),
        ("3", "3"),
        ("results", "results"),
        ("../shared/teacher.pth", "../shared/teacher.pth"),
        ("HERE/results", "results"),
        ("--output=HERE/results", "--output=results"),
        ("HERE/../shared/teacher.pth", "../shared/teacher.pth"),
        ("/elsewhere/somebody/teacher.pth", ".../teacher.pth"),
        ("~/teacher.pth", ".../teacher.pth"),
        ("~teacher.network.pretrained", "~teacher.network.pretrained"),
        ("data.folder=/elsewhere/somebody/data", "data.folder=.../data"),
        ("wrn_16_2=HERE/w.pth", "wrn_16_2=w.pth"),
        ("max_steps=6, show_from=0", "max_steps=6, show_from=0"),
    ],
)
def test_paths_lose_what_is_particular_to_the_machine(
    argument: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "project"
    here.mkdir()
    monkeypatch.chdir(here)
    assert provenance.portable(argument.replace("HERE", str(here))) == expected


def test_paths_beside_a_folder_at_the_root_are_not_relative_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    assert provenance.portable("/home/somebody/teacher.pth") == ".../teacher.pth"


def test_collected() -> None:
    arguments = ["--data", "/home/somebody/my data"]
    origin = provenance.collect("a.program", arguments, seeds=[1, 2])
    assert origin.command == "python -m a.program --data '.../my data'"
    assert origin.machine["threads"] == torch.get_num_threads()
    assert origin.machine["CPU"]
    assert "GPU" not in origin.machine
    assert origin.versions["python"] == platform.python_version()
    assert set(origin.versions) == {"python", "supermix_pl", "torch", "torchvision"}
    text = "\n".join(origin.lines())
    assert "seeds: 1, 2" in text
    assert platform.node() not in text
    assert str(Path.home()) not in text


def test_table_is_written_as_markdown() -> None:
    table = Table(title="Cost", columns=("row", "ms"), rows=[("a", "1.0"), ("b", "2.0")], notes=("Of one.",))
    assert table.markdown() == ("## Cost\n\n| row | ms |\n| --- | ---: |\n| a | 1.0 |\n| b | 2.0 |\n\n- Of one.\n")
    assert table.rich().row_count == 2


def test_targets() -> None:
    share, ratio = Target(what="solved", limit=0.76, at_least=True), Target(what="ratio", limit=1.1)
    assert share.met(0.76)
    assert not share.met(0.75)
    assert ratio.met(1.1)
    assert not ratio.met(1.11)
    assert not ratio.met(None)
    assert share.verdict(0.8) == "solved >= 0.76: met"
    assert ratio.verdict(1.2) == "ratio <= 1.1: missed"
    assert ratio.verdict(None) == "ratio <= 1.1: not measured"


def test_summaries_leave_out_what_could_not_be_measured() -> None:
    assert Summary.of([1.0, None, 2.0, 6.0]) == Summary(mean=3.0, deviation=7**0.5, median=2.0, least=1.0, most=6.0)
    assert Summary.of([None]) is None
    assert mean_cell([1.0, 2.0, 6.0], 2) == "3.00 ± 2.65"
    assert median_cell([1.0, 2.0, 6.0], 1) == "2.0 (1.0 - 6.0)"
    assert mean_cell([2.0], 1) == median_cell([2.0], 1) == "2.0"
    assert mean_cell([None], 1) == median_cell([None], 1) == "-"
