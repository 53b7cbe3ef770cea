"""The examples are complete programs: each runs by itself, from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ARGUMENTS = {
    "classifier": ["--epochs", "3"],
    "distillation": ["--epochs", "2"],
    "cli": ["fit", "--config", str(EXAMPLES / "cli.yaml")],
}
NEEDS = {"cli": "jsonargparse"}


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


def test_examples_know_nothing_of_our_experiments() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert "experiments" not in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ARGUMENTS)
def test_example(tmp_path: Path, name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *ARGUMENTS[name]]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "None of the" not in done.stderr  # the teacher knows the images
    assert "no more than chance" not in done.stderr
    assert "solved_f" in done.stdout
