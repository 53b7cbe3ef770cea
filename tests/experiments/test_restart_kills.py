"""`kill -9` at random moments of `supermix-train`, started again each time: it ends as a run that went through."""

import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from supermix_pl.experiments.checkpoints import Restart
from supermix_pl.experiments.train import train
from tests.composing import compose
from tests.experiments.test_restart import RUNS, SMALL, assert_same_run
from tests.killing import in_child

MOST_STEPS_ALIVE = 4
LONGEST_WAIT = 0.06  # seconds, about a step with its checkpoint
LONGEST_START = 1.0  # seconds, about as long as a run takes to its first step


def trained(folder: Path, kind: str, num_images: int, pipe: int) -> None:
    """Train, and tell a pipe of every step that starts."""
    Restart.on_train_batch_start = lambda *_: os.write(pipe, b".")  # pyright: ignore
    paths = [f"paths.root_dir={folder.parent}", f"paths.output_dir={folder}", f"data.train_size={num_images}"]
    train(compose("train", [*SMALL, *RUNS[kind], *paths, "trainer.max_epochs=3"]))


def main(folder: Path, kind: str, num_kills: int, seed: int) -> None:
    """Train once without and once with kills; a fifth of them come before the first step."""
    chance = random.Random(seed)
    num_images = 4 * -(-MOST_STEPS_ALIVE * (num_kills + 1) // 3)  # so that no moment of a kill is too late
    assert in_child(partial(trained, folder / "whole", kind, num_images), None) == 0
    for number in range(num_kills):
        early = number % 5 == 4
        steps = 0 if early else chance.randint(1, MOST_STEPS_ALIVE)
        alive = steps, chance.uniform(0, LONGEST_START if early else LONGEST_WAIT)
        assert in_child(partial(trained, folder / "killed", kind, num_images), alive) == -signal.SIGKILL
        print(alive, sorted(path.name for path in (folder / "killed" / "checkpoints").glob("*")), flush=True)
    assert in_child(partial(trained, folder / "killed", kind, num_images), None) == 0


def run_and_kill(folder: Path, kind: str, num_kills: int, seed: int) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.experiments.test_restart_kills",
        str(folder),
        kind,
        str(num_kills),
        str(seed),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, timeout=900
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "is damaged" not in done.stderr
    assert_same_run(folder / "killed", folder / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stream", "validated within epochs"])
def test_killed_twenty_times(tmp_path: Path, kind: str) -> None:
    run_and_kill(tmp_path, kind, 20, seed=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
