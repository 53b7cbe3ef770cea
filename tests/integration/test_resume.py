"""What was interrupted anywhere ends as what was not, to the bit, and where it cannot, a warning says so."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from supermix_pl import SuperMix, SuperMixCallback
from supermix_pl.transforms import RandomCropFlip
from tests.integration.test_packages import MixingStudent
from tests.integration.toys import (
    MIXER,
    IgnorantTeacher,
    Student,
    Teacher,
    assert_same_tensors,
    loader,
    make_callback,
    make_trainer,
    natural_data,
    weights,
)

NUM_BATCHES = 3
NUM_EPOCHS = 3
OURS = "Resuming in the middle of an epoch with a data loader that has no state_dict"

pytestmark = [
    # Lightning's words on the ModelCheckpoint of the first run, and its own, shorter warning of a plain loader
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used:UserWarning"),
    pytest.mark.filterwarnings(
        "ignore:You're resuming from a checkpoint that ended before the epoch ended:UserWarning"
    ),
]


class Resumable:
    """The smallest loader that resumes: its order depends on the epoch, its state is the place in it."""

    batch_sampler = None

    def __init__(self) -> None:
        self.images, self.labels = natural_data(4 * NUM_BATCHES)
        self.epoch = self.batch = self.start = 0

    @property
    def sampler(self) -> "Resumable":
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return NUM_BATCHES

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.batch, self.start = self.start, 0
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(self.epoch))
        for rows in order.split(4)[self.batch :]:
            self.batch += 1
            yield self.images[rows], self.labels[rows]
        self.batch = 0

    def state_dict(self) -> dict[str, Any]:
        return {"batch": self.batch % NUM_BATCHES}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.start = state["batch"]


class Failing(Student):
    fails_at = -1

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.trainer.fit_loop.total_batch_idx == self.fails_at:
            raise ZeroDivisionError("power cut")
        return super().training_step(batch, batch_idx)


def mixing_callback(**options: Any) -> SuperMixCallback:
    """Uses every stream of chance: pairing, weights, which batches, views."""
    chance = {"probability": 0.7, "mixed_transform": RandomCropFlip(padding=1), "seed": 3}
    return make_callback(mixer=MIXER, **{**chance, **options})


def fit(
    folder: Path, *callbacks: Any, student: Any = None, data: Any = None, resume: Path | None = None, **options: Any
):
    student = student or Failing()
    trainer = make_trainer(folder, *callbacks, **{"max_epochs": NUM_EPOCHS, "enable_checkpointing": True, **options})
    trainer.fit(student, data or Resumable(), ckpt_path=resume, weights_only=resume and True)
    return student


def assert_continues(resumed: Student, whole: Student, step: int) -> None:
    assert len(resumed.images) == len(whole.images) - step
    for images, expected in zip(resumed.images, whole.images[step:], strict=True):
        assert torch.equal(images, expected)
    for labels, expected in zip(resumed.labels, whole.labels[step:], strict=True):
        assert torch.equal(labels, expected)
    assert_same_tensors(weights(resumed), weights(whole))


def every_step(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1, save_on_train_epoch_end=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Student, Path]:
    """An uninterrupted run with a checkpoint after every step."""
    folder = tmp_path_factory.mktemp("whole")
    return fit(folder, mixing_callback(), every_step(folder)), folder


def test_the_whole_run_mixes_some_batches_and_differs_from_epoch_to_epoch(whole: tuple[Student, Path]) -> None:
    student, _ = whole
    sizes = [len(images) for images in student.images]
    assert len(sizes) == NUM_BATCHES * NUM_EPOCHS
    assert set(sizes) == {4, 8}
    assert sizes[1] == 8, "the resumed runs below should start with mixed batches too"
    assert not torch.equal(student.images[0][:4], student.images[3][:4])


@pytest.mark.parametrize("step", range(1, NUM_BATCHES * NUM_EPOCHS))
def test_resumed_after_any_step(whole: tuple[Student, Path], tmp_path: Path, step: int) -> None:
    student, folder = whole
    resumed = fit(tmp_path, mixing_callback(), resume=folder / f"step={step}.ckpt", enable_checkpointing=False)
    assert_continues(resumed, student, step)


@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
@pytest.mark.parametrize("step", [2, 3])
def test_resumed_twice(whole: tuple[Student, Path], tmp_path: Path, step: int) -> None:
    """From within an epoch that a resumed run began: Lightning by itself tells its place wrong after step 3."""
    student, folder = whole
    fit(tmp_path, mixing_callback(), every_step(tmp_path), resume=folder / f"step={step}.ckpt")
    again = fit(tmp_path / "again", mixing_callback(), resume=tmp_path / "step=4.ckpt", enable_checkpointing=False)
    assert_continues(again, student, 4)


@pytest.mark.parametrize("step", [2, 3])
def test_resumed_by_number_of_steps(whole: tuple[Student, Path], tmp_path: Path, step: int) -> None:
    student, folder = whole
    options = {"max_epochs": -1, "max_steps": NUM_BATCHES * NUM_EPOCHS, "enable_checkpointing": False}
    resumed = fit(tmp_path, mixing_callback(), resume=folder / f"step={step}.ckpt", **options)
    assert_continues(resumed, student, step)


def test_resumed_between_epochs(whole: tuple[Student, Path], tmp_path: Path) -> None:
    student, _ = whole
    each_epoch = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    fit(tmp_path, mixing_callback(), each_epoch, max_epochs=2)
    resumed = fit(tmp_path, mixing_callback(), resume=tmp_path / "epoch=0.ckpt", enable_checkpointing=False)
    assert_continues(resumed, student, NUM_BATCHES)


class Validated(Failing):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        assert len(batch[0]) == 4

    def val_dataloader(self) -> Any:
        return loader(4)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_resumed_after_a_validation(tmp_path: Path, step: int) -> None:
    options: dict[str, Any] = {"val_check_interval": 1, "max_epochs": 2}
    each_validation = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, save_on_train_epoch_end=False)
    student = fit(tmp_path, mixing_callback(), each_validation, student=Validated(), **options)
    assert len(student.images) == 2 * NUM_BATCHES
    options["enable_checkpointing"] = False
    resume = tmp_path / f"step={step}.ckpt"
    resumed = fit(tmp_path, mixing_callback(), student=Validated(), resume=resume, **options)
    assert_continues(resumed, student, step)


class SavingOnException(Callback):
    """Lightning's own OnExceptionCheckpoint warns of itself in every fit."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        trainer.save_checkpoint(self.path)


class Rewinding(Resumable):
    """Gives back, on saving, the batch that was fetched but not finished."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def state_dict(self) -> dict[str, Any]:
        return {"batch": self.student.trainer.fit_loop.epoch_loop.batch_progress.current.completed}


@pytest.mark.parametrize("step", [1, 4])
def test_resumed_after_an_exception_within_a_step(whole: tuple[Student, Path], tmp_path: Path, step: int) -> None:
    student, _ = whole
    failing = Failing()
    failing.fails_at = step
    with pytest.raises(ZeroDivisionError, match="power cut"):
        fit(
            tmp_path,
            mixing_callback(),
            SavingOnException(tmp_path / "cut.ckpt"),
            student=failing,
            data=Rewinding(failing),
        )
    assert len(failing.images) == step
    resumed = fit(tmp_path, mixing_callback(), resume=tmp_path / "cut.ckpt", enable_checkpointing=False)
    assert_continues(resumed, student, step)


def test_resumed_under_accumulation(tmp_path: Path) -> None:
    student = fit(tmp_path, mixing_callback(), every_step(tmp_path), accumulate_grad_batches=2)
    options = {"accumulate_grad_batches": 2, "enable_checkpointing": False}
    resumed = fit(tmp_path, mixing_callback(), resume=tmp_path / "step=1.ckpt", **options)
    assert_continues(resumed, student, 2)


def test_resumed_with_the_mixin(tmp_path: Path) -> None:
    student = fit(tmp_path, every_step(tmp_path), student=MixingStudent())
    resumed = fit(tmp_path, student=MixingStudent(), resume=tmp_path / "step=4.ckpt", enable_checkpointing=False)
    assert_continues(resumed, student, 4)
    assert all(len(images) == 8 for images in resumed.images)


def test_resumed_with_another_seed(whole: tuple[Student, Path], tmp_path: Path) -> None:
    student, folder = whole
    callback = mixing_callback(seed=4)
    with pytest.warns(UserWarning, match=r"mixed with seed=3, this run has seed=4.*will not repeat"):
        resumed = fit(tmp_path, callback, resume=folder / "step=4.ckpt", enable_checkpointing=False)
    assert any(not torch.equal(*pair) for pair in zip(resumed.images, student.images[4:], strict=True))


def our_warnings(folder: Path, data: Any, checkpoint: Path, **options: Any) -> int:
    """Resume, and count how often we warn."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        callback = mixing_callback(**options)
        student = Failing(lambda batch: batch["a"][0], lambda batch: batch["a"][1]) if options else Failing()
        fit(folder, callback, student=student, data=data, resume=checkpoint, enable_checkpointing=False)
    assert student.batches
    return sum(OURS in str(warning.message) for warning in caught)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints after every step of a run with a loader that cannot resume."""
    folder = tmp_path_factory.mktemp("plain")
    fit(folder, mixing_callback(), every_step(folder), data=loader())
    return folder


@pytest.mark.parametrize("step", range(1, 2 * NUM_BATCHES + 1))
def test_warning_with_a_plain_loader(plain: Path, tmp_path: Path, step: int) -> None:
    """It comes just where Lightning starts the epoch over: in the middle of one, not at its end."""
    assert our_warnings(tmp_path, loader(), plain / f"step={step}.ckpt") == (1 if step % NUM_BATCHES else 0)


@pytest.mark.parametrize("step", [1, 2])
def test_no_warning_with_a_resumable_loader(whole: tuple[Student, Path], tmp_path: Path, step: int) -> None:
    assert our_warnings(tmp_path, Resumable(), whole[1] / f"step={step}.ckpt") == 0


def test_warning_if_one_of_two_loaders_cannot_resume(whole: tuple[Student, Path], tmp_path: Path) -> None:
    keys = {"input_key": "a.0", "target_key": "a.1"}
    checkpoint = whole[1] / "step=2.ckpt"
    assert our_warnings(tmp_path, {"a": Resumable(), "b": loader()}, checkpoint, **keys) == 1


def test_no_warning_without_a_resume(tmp_path: Path) -> None:
    for options in ({"max_epochs": 2}, {"max_epochs": -1, "max_steps": 5}):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", OURS)
            trainer = make_trainer(tmp_path, mixing_callback(), **options)
            trainer.fit(Student(), loader())
            trainer.fit_loop.max_epochs, trainer.fit_loop.epoch_loop.max_steps = 4, -1
            trainer.fit(Student(), loader())


def test_warning_for_a_plain_loader_after_an_exception(tmp_path: Path) -> None:
    failing = Failing()
    failing.fails_at = 2  # the last batch of its epoch, which has to be done again
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, mixing_callback(), SavingOnException(tmp_path / "cut.ckpt"), student=failing, data=loader())
    assert our_warnings(tmp_path, loader(), tmp_path / "cut.ckpt") == 1


@pytest.mark.filterwarnings("ignore:k=1")
def test_counts_of_the_teachers_judge_survive(tmp_path: Path) -> None:
    """The warning of a teacher near chance counts labels over the interruption."""
    mixer = SuperMix(k=1, mask_size=4, max_steps=1)
    first = make_callback(IgnorantTeacher(), mixer, mode="replace")
    trainer = make_trainer(tmp_path, first, max_epochs=1)
    trainer.fit(Student(), loader(240, 60))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second = make_callback(IgnorantTeacher(), mixer, mode="replace")
    resumed = make_trainer(tmp_path, second, max_epochs=2)
    with pytest.warns(UserWarning, match="agrees with 86 of the first 256 labels"):
        resumed.fit(Student(), loader(240, 60), ckpt_path=tmp_path / "half.ckpt", weights_only=True)


def test_state_is_plain_numbers() -> None:
    callback = make_callback(Teacher(), seed=9)
    state = callback.state_dict()
    assert state == {"seed": 9, "labels_seen": 0, "labels_hit": 0, "engine": {}}
    other = make_callback(Teacher(), seed=9)
    other.load_state_dict({**state, "labels_seen": 5, "labels_hit": 2})
    assert other.state_dict() == {"seed": 9, "labels_seen": 5, "labels_hit": 2, "engine": {}}
