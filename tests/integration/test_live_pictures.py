"""`log_images_every`: when a picture is drawn, where it goes, and that no other step pays for it."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger as UnifiedTensorBoardLogger
from PIL import Image
from pytorch_lightning.callbacks import RichProgressBar, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.profilers import SimpleProfiler

from supermix_pl import FrozenTeacher, MixUp, StreamEngine, SuperMixCallback
from supermix_pl.pictures.grid import ShownSets
from supermix_pl.pictures.logger import Pictures
from tests.integration.test_packages import PACKAGES
from tests.integration.toys import (
    NUM_CLASSES,
    Student,
    Teacher,
    assert_same_tensors,
    loader,
    loader_of,
    make_callback,
    make_trainer,
    natural_data,
    weights,
)


class ImageLogger(Logger):
    """Takes images as Weights & Biases does."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[str, list[np.ndarray], int]] = []

    @property
    def name(self) -> str:
        return "images"

    @property
    def version(self) -> int:
        return 0

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        assert step is not None
        self.logged.append((key, images, step))

    def log_metrics(self, metrics: Any, step: int | None = None) -> None: ...

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None: ...


def pictures_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("**/supermix/*.png"))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the batches that are drawn, without the drawing."""
    numbers: list[int] = []
    monkeypatch.setattr("supermix_pl.pictures.logger.titled_grid", lambda sets: np.zeros((4, 4, 3), dtype=np.uint8))
    draw = Pictures.draw

    def counted(self: Any, number: int, *rest: Any) -> None:
        numbers.append(number)
        draw(self, number, *rest)

    monkeypatch.setattr(Pictures, "draw", counted)
    return numbers


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[ShownSets]:
    """What is drawn, without the drawing."""
    sets: list[ShownSets] = []
    blank = np.zeros((4, 4, 3), dtype=np.uint8)
    monkeypatch.setattr("supermix_pl.pictures.logger.titled_grid", lambda one: sets.append(one) or blank)
    return sets


@pytest.mark.parametrize("name", PACKAGES)
def test_folder_of_the_run_without_a_logger(tmp_path: Path, name: str) -> None:
    package, make_student = PACKAGES[name]
    make_trainer(tmp_path, make_callback(log_images_every=2), package=package).fit(make_student(), loader())
    assert pictures_in(tmp_path) == ["mixes_00000000.png", "mixes_00000002.png"]
    picture = np.asarray(Image.open(tmp_path / "supermix" / "mixes_00000000.png"))
    assert picture.ndim == 3
    assert picture.min() < 100 < picture.max()


def test_folder_of_a_logger_that_takes_no_images(tmp_path: Path, drawn: list[int]) -> None:
    logger = CSVLogger(tmp_path)
    make_trainer(tmp_path, make_callback(log_images_every=100), logger=logger, log_every_n_steps=1).fit(
        Student(), loader()
    )
    assert drawn == [0]
    assert pictures_in(Path(logger.log_dir)) == ["mixes_00000000.png"]


@pytest.mark.parametrize(
    ("package", "make_logger"),
    [(pl, TensorBoardLogger), (lightning.pytorch, UnifiedTensorBoardLogger)],
    ids=PACKAGES,
)
def test_tensorboard(tmp_path: Path, package: Any, make_logger: Any, drawn: list[int]) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = make_logger(tmp_path)
    student = PACKAGES[package.__name__.split(".")[0]][1]()
    make_trainer(tmp_path, make_callback(log_images_every=2), package=package, logger=logger, log_every_n_steps=1).fit(
        student, loader()
    )
    events = event_accumulator.EventAccumulator(logger.log_dir).Reload()
    assert events.Tags()["images"] == ["supermix/mixes"]
    assert [image.step for image in events.Images("supermix/mixes")] == drawn == [0, 2]
    assert pictures_in(tmp_path) == []


def test_every_logger_that_takes_images_gets_them(tmp_path: Path, drawn: list[int]) -> None:
    loggers = [ImageLogger(), CSVLogger(tmp_path), ImageLogger()]
    trainer = make_trainer(
        tmp_path, make_callback(log_images_every=2), logger=loggers, log_every_n_steps=1, accumulate_grad_batches=2
    )
    trainer.fit(Student(), loader(16))
    for logger in (loggers[0], loggers[2]):
        assert isinstance(logger, ImageLogger)
        assert [(key, len(images), step) for key, images, step in logger.logged] == [
            ("supermix/mixes", 1, 0),
            ("supermix/mixes", 1, 1),  # optimiser steps, as Lightning counts for its metrics
        ]
    assert pictures_in(tmp_path) == []


def test_weights_and_biases_takes_what_we_give() -> None:
    inspect.signature(WandbLogger.log_image).bind(None, "key", [np.zeros((2, 2, 3), np.uint8)], step=0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"log_images_every": 2}, [0, 2, 4]),
        ({"log_images_every": 2, "every_n_batches": 3}, [0, 3]),
        ({"log_images_every": 1, "start_epoch": 1}, [3, 4, 5]),
        ({}, []),
    ],
)
def test_when(tmp_path: Path, drawn: list[int], options: Any, expected: list[int]) -> None:
    make_trainer(tmp_path, make_callback(**options), max_epochs=2).fit(Student(), loader())
    assert drawn == expected


def test_other_ranks_draw_nothing(tmp_path: Path, drawn: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Trainer, "is_global_zero", property(lambda self: False))
    make_trainer(tmp_path, make_callback(log_images_every=1)).fit(Student(), loader())
    assert drawn == []


@pytest.mark.parametrize("options", [{"fast_dev_run": True}, {"barebones": True}])
def test_trial_runs_draw_nothing(tmp_path: Path, drawn: list[int], options: Any) -> None:
    callback = make_callback(log_images_every=1)
    student = Student()
    pl.Trainer(accelerator="cpu", default_root_dir=tmp_path, max_epochs=1, callbacks=[callback], **options).fit(
        student, loader()
    )
    assert student.mixes[-1] is not None
    assert drawn == []


def test_training_is_the_same_to_the_bit(tmp_path: Path, shown: list[ShownSets]) -> None:
    students = []
    for every in (None, 1):
        students.append(Student())
        make_trainer(tmp_path, make_callback(log_images_every=every)).fit(students[-1], loader(8))
    assert len(shown) == 2
    assert_same_tensors(weights(students[1]), weights(students[0]))


def test_profiler_tells_pictures_from_mixing(tmp_path: Path, drawn: list[int]) -> None:
    profiler = SimpleProfiler()
    make_trainer(tmp_path, make_callback(log_images_every=2), profiler=profiler).fit(Student(), loader())
    assert len(profiler.recorded_durations["[SuperMix]mix"]) == 3
    assert len(profiler.recorded_durations["[SuperMix]picture"]) == len(drawn) == 2


def test_a_stream_shows_views_as_the_student_saw_them_with_their_sources(
    tmp_path: Path, shown: list[ShownSets]
) -> None:
    engine = StreamEngine(default_transform=None)
    callback = make_callback(engine=engine, log_images_every=1)
    student = Student()
    make_trainer(tmp_path, callback).fit(student, loader(32))
    assert len(shown) == 8
    for sets, images in zip(shown, student.images, strict=True):
        assert sets.sources is not None
        assert sets.masks is not None
        assert len(sets.names) == len(sets.mixes) == len(sets.sources) == 4
        torch.testing.assert_close(sets.mixes, images[-4:])
        expected = (sets.masks.unsqueeze(2) * sets.sources).sum(dim=1)
        torch.testing.assert_close(sets.mixes, expected, atol=1e-3, rtol=0)


def test_blind_mixer_without_a_teacher(tmp_path: Path, shown: list[ShownSets]) -> None:
    callback = SuperMixCallback(None, MixUp(num_classes=NUM_CLASSES), targets="soft", log_images_every=1)
    make_trainer(tmp_path, callback).fit(Student(), loader(4))
    assert [sets.seen for sets in shown] == [[]]


def test_normalisation_and_names_that_are_known(tmp_path: Path, shown: list[ShownSets]) -> None:
    natural, labels = natural_data(4)

    class Data(pl.LightningDataModule):
        class_names = ("red", "green", "blue")

        def train_dataloader(self) -> Any:
            return loader_of([[(natural - 0.5) / 0.5, labels]])

    teacher = FrozenTeacher(Teacher(), input_mean=[0.5] * 3, input_std=[0.5] * 3)
    make_trainer(tmp_path, make_callback(teacher, log_images_every=1)).fit(Student(), datamodule=Data())
    assert shown[0].sources is not None
    torch.testing.assert_close(shown[0].sources[:, 0], natural)
    assert shown[0].names[0][0].split()[0] == "red"


def test_without_matplotlib_it_is_asked_for_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supermix_pl.pictures.logger.find_spec", lambda name: None)
    student = Student()
    with pytest.raises(ModuleNotFoundError, match="expected matplotlib for log_images_every, got none; pip install"):
        make_trainer(tmp_path, make_callback(log_images_every=1)).fit(student, loader())
    assert not student.batches


def test_nonsense() -> None:
    with pytest.raises(ValueError, match="expected log_images_every to be an integer >= 1, got 0"):
        make_callback(log_images_every=0)


@pytest.mark.parametrize("bar", [RichProgressBar, TQDMProgressBar])
def test_progress_bars(tmp_path: Path, drawn: list[int], bar: Any, capsys: pytest.CaptureFixture[str]) -> None:
    callback = make_callback(log="prog_bar", log_images_every=2)
    trainer = make_trainer(tmp_path, callback, bar(), enable_progress_bar=True)
    trainer.fit(Student(), loader())
    assert drawn == [0, 2]
    assert trainer.progress_bar_metrics.keys() >= {"supermix/solved_fraction", "supermix/ms"}
    assert "Epoch 0" in capsys.readouterr().out


DDP = """
import sys
from pathlib import Path
from tests.integration.toys import *
folder = Path(sys.argv[1])
make_trainer(folder, make_callback(log_images_every=1), devices=2, strategy="ddp").fit(Student(), loader(8, 2))
"""


@pytest.mark.slow
def test_two_processes_leave_one_set_of_pictures(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(f"if __name__ == '__main__':\n    exec({DDP!r})")
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert pictures_in(tmp_path) == ["mixes_00000000.png", "mixes_00000001.png"]
