"""What is logged of the mixing, and to whom."""

import itertools
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.profilers import SimpleProfiler

from supermix_pl import MixUp, SuperMix, SuperMixCallback
from supermix_pl.transforms import RandomCropFlip
from tests.integration.test_packages import MixingStudent
from tests.integration.toys import (
    NUM_CLASSES,
    StubbornTeacher,
    Student,
    Teacher,
    UnifiedStudent,
    loader,
    make_callback,
    make_trainer,
)

TIMES = {"supermix/ms", "supermix/time_share"}
PASSES = ("teacher_forwards", "label_forwards")
NAMES = TIMES | {f"supermix/{name}" for name in ("solved_fraction", "non_finite_fraction", "steps", *PASSES)}
IN_BAR = {"supermix/solved_fraction", "supermix/ms"}


class Watching(Student):
    """Keeps what was logged after each step."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.logged: list[dict[str, float]] = []

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.logged.append({name: float(value) for name, value in self.trainer.callback_metrics.items()})


@pytest.mark.parametrize("package", [pl, lightning.pytorch])
def test_values(tmp_path: Path, package: Any) -> None:
    student = Student() if package is pl else UnifiedStudent()
    trainer = make_trainer(tmp_path, make_callback(), package=package)
    trainer.fit(student, loader())
    mix = student.mixes[-1]
    assert mix is not None
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert set(metrics) == NAMES
    assert metrics["supermix/solved_fraction"] == pytest.approx(mix.solved.float().mean().item())
    assert metrics["supermix/non_finite_fraction"] == 0
    assert 0 < metrics["supermix/time_share"] < 1
    assert metrics["supermix/steps"] == pytest.approx(mix.num_steps.float().mean().item())
    assert (
        metrics["supermix/teacher_forwards"] == mix.teacher_forwards >= 4 + 3 * 4
    )  # labels, then two steps and a test
    assert 0 < metrics["supermix/ms"] < 60_000
    assert trainer.logged_metrics.keys() >= NAMES
    assert not NAMES & trainer.progress_bar_metrics.keys()


def test_solved_fraction_and_steps_of_sets_that_never_end(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_callback(StubbornTeacher(), SuperMix(mask_size=4, max_steps=3)))
    with pytest.warns(UserWarning, match="None of the 3 sets of a batch was solved within max_steps=3"):
        trainer.fit(Student(num_classes=NUM_CLASSES + 1), loader(3, 3))
    assert float(trainer.callback_metrics["supermix/solved_fraction"]) == 0.0
    assert float(trainer.callback_metrics["supermix/steps"]) == 3.0
    assert float(trainer.callback_metrics["supermix/teacher_forwards"]) == 3 + 4 * 3


def test_every_pass_of_the_teacher_is_counted(tmp_path: Path) -> None:
    passed = []

    class Counted(Teacher):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            passed.append(len(images))
            return super().forward(images)

    student = Watching()
    make_trainer(tmp_path, make_callback(Counted(), mixed_transform=RandomCropFlip(padding=1))).fit(student, loader())
    counted = sum(logged["supermix/teacher_forwards"] for logged in student.logged)
    assert sum(passed) == counted + 4 > 4  # the first batch once more, to see whether its logits repeat


def test_progress_bar(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_callback(log="prog_bar"))
    trainer.fit(Student(), loader())
    assert trainer.progress_bar_metrics.keys() == IN_BAR
    assert trainer.callback_metrics.keys() == NAMES


def test_no_log(tmp_path: Path) -> None:
    trainer, student = make_trainer(tmp_path, make_callback(log=False)), Student()
    trainer.fit(student, loader())
    assert student.mixes[0] is not None
    assert not trainer.callback_metrics
    assert not trainer.logged_metrics


def test_bare_bones_trainer_that_logs_nothing(tmp_path: Path) -> None:
    """Its warning would be of a log that the user never wrote."""
    student = Student()
    trainer = pl.Trainer(accelerator="cpu", barebones=True, max_epochs=1, callbacks=[make_callback()])
    trainer.fit(student, loader())
    assert [len(images) for images in student.images] == [8, 8, 8]
    assert not trainer.callback_metrics


@pytest.mark.filterwarnings("ignore:start_epoch=1 is not below")
def test_unmixed_batches_log_nothing(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_callback(start_epoch=1))
    trainer.fit(Student(), loader())
    assert not trainer.callback_metrics


def test_mixin_and_own_logs(tmp_path: Path) -> None:
    class Logging(MixingStudent):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            assert self.mix is not None
            self.log("mixed_share", self.mix.mix_weights[:, 1:].sum(dim=1).mean(), batch_size=len(batch[0]))
            return loss

    trainer = make_trainer(tmp_path)
    trainer.fit(Logging(), loader())
    assert trainer.callback_metrics.keys() == NAMES | {"mixed_share"}


def test_blind_mixer_without_a_teacher_has_only_its_time(tmp_path: Path) -> None:
    callback = SuperMixCallback(None, MixUp(num_classes=NUM_CLASSES), targets="soft", engine="batch")
    trainer = make_trainer(tmp_path, callback)
    trainer.fit(Student(), loader())
    assert trainer.callback_metrics.keys() == TIMES


def test_reaches_a_logger_step_by_step(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    student = Student()
    make_trainer(tmp_path, make_callback(every_n_batches=2), logger=logger, log_every_n_steps=1).fit(student, loader())
    lines = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    header = lines[0].split(",")
    rows = [dict(itertools.zip_longest(header, line.split(","))) for line in lines[1:]]
    logged = {int(row["step"] or 0): float(row["supermix/teacher_forwards"] or 0) for row in rows}
    expected = {step: mix.teacher_forwards for step, mix in enumerate(student.mixes) if mix is not None}
    assert expected.keys() == {0, 2}
    assert logged.items() >= expected.items()  # of step 1 Lightning repeats the last value


def test_profiler_names_the_mixing(tmp_path: Path) -> None:
    profiler = SimpleProfiler()
    make_trainer(tmp_path, make_callback(), profiler=profiler).fit(Student(), loader())
    assert len(profiler.recorded_durations["[SuperMix]mix"]) == 3
