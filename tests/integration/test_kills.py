"""`kill -9` at random moments of a run with checkpoints and the resumable loader: it ends as one that went through."""

import contextlib
import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from supermix_pl import SuperMixCallback
from supermix_pl.engine import StreamEngine
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.data.datamodule import Opened
from supermix_pl.transforms import RandomCropFlip
from tests.integration.toys import MIXER, Student, Teacher, assert_same_tensors, make_trainer, natural_data
from tests.killing import in_child

BATCH_SIZE, EPOCHS = 4, 3
MOST_STEPS_ALIVE = 5
LONGEST_WAIT = 0.05  # seconds, about two steps with their checkpoints


class Bright(ImageDataModule):
    """The toys' images in 8 bits, shuffled, in random views."""

    def __init__(self, num_images: int) -> None:
        super().__init__(batch_size=BATCH_SIZE, seed=7)
        self.num_images = num_images

    def open_data(self) -> Opened:
        images, labels = natural_data(self.num_images)
        part = (images * 255).byte().numpy(), labels.numpy().astype(np.int64)
        numbers = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        return self._opened_arrays(train=part, test=part, class_names=["a", "b", "c"], **numbers)


class Telling(Callback):
    """Writes a byte into a pipe at the start of every step."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        os.write(self.pipe, b".")


def train(folder: Path, engine: str, num_images: int, pipe: int) -> None:
    """Go on from the checkpoint if there is one; it is overwritten after every step."""
    mixing = SuperMixCallback(
        Teacher(),
        MIXER,
        engine="batch" if engine == "batch" else StreamEngine(reuse=2, store_bytes=30_000),
        mixed_transform=RandomCropFlip(padding=1),
        probability=0.8,
        save_state=engine == "stream",
    )
    saving = ModelCheckpoint(folder, "run", every_n_train_steps=1, enable_version_counter=False)
    student = Student(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9))
    trainer = make_trainer(
        folder, mixing, saving, Telling(pipe), enable_checkpointing=True, max_epochs=EPOCHS, limit_val_batches=0
    )
    checkpoint = folder / "run.ckpt"
    resume = {"ckpt_path": checkpoint, "weights_only": True} if checkpoint.exists() else {}
    trainer.fit(student, datamodule=Bright(num_images), **resume)
    torch.save(student.state_dict(), folder / "weights.pt")


def main(folder: Path, engine: str, num_kills: int, seed: int) -> None:
    chance = random.Random(seed)
    steps = MOST_STEPS_ALIVE * (num_kills + 1)  # so that no moment of a kill is too late
    num_images = -(-steps // EPOCHS) * BATCH_SIZE - 1  # with a last, odd batch
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    assert in_child(partial(train, folder / "whole", engine, num_images), None) == 0
    for _ in range(num_kills):
        alive = chance.randint(1, MOST_STEPS_ALIVE), chance.uniform(0, LONGEST_WAIT)
        assert in_child(partial(train, folder / "killed", engine, num_images), alive) == -signal.SIGKILL
        with contextlib.suppress(FileNotFoundError):
            epoch = torch.load(folder / "killed" / "run.ckpt", weights_only=True)["epoch"]
            print(f"killed in epoch {epoch}, {os.listdir(folder / 'killed')}")
    assert in_child(partial(train, folder / "killed", engine, num_images), None) == 0


def run_and_kill(folder: Path, engine: str, num_kills: int, seed: int) -> None:
    command = [sys.executable, "-m", "tests.integration.test_kills", str(folder), engine, str(num_kills), str(seed)]
    # Lightning writes its checkpoints to the folder of temporary files first, and moves them
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "TMPDIR": str(folder)}
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "not there" not in done.stderr
    killed, whole = (torch.load(folder / name / "weights.pt", weights_only=True) for name in ("killed", "whole"))
    assert_same_tensors(killed, whole)
    assert not torch.equal(whole["layer.weight"], Student().layer.weight)
    left = [set(os.listdir(folder / name)) for name in ("killed", "whole")]
    assert left[0] == left[1]  # no file of an earlier moment, none half written
    tensors = [name for name in left[0] if name.endswith(".safetensors")]
    assert len(tensors) == (1 if engine == "stream" else 0)
    assert left[0] == {"run.ckpt", "weights.pt", *tensors}
    for name in tensors:
        assert (folder / "killed" / name).read_bytes() == (folder / "whole" / name).read_bytes()


@pytest.mark.slow
def test_killed_once(tmp_path: Path) -> None:
    run_and_kill(tmp_path, "stream", 1, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["batch", "stream"])
def test_killed_ten_times(tmp_path: Path, engine: str) -> None:
    run_and_kill(tmp_path, engine, 10, seed=1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
