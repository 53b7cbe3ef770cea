"""Where numbers come from."""

import platform
import subprocess
from pathlib import Path

import pytest
import torch

from supermix_pl.experiments.shared import provenance


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
