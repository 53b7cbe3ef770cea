"""Lightning's finders replace the trainer's callbacks; the mixing works in their trial runs and afterwards."""

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch
import lightning.pytorch.tuner.tuning
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BatchSizeFinder, LearningRateFinder
from pytorch_lightning.tuner.tuning import Tuner

from supermix_pl import MixUp, StreamEngine, SuperMix
from tests.integration.test_packages import MixingStudent
from tests.integration.toys import (
    Student,
    UnifiedStudent,
    assert_extended,
    assert_same_tensors,
    loader,
    make_callback,
    make_trainer,
    weights,
)

# Lightning's own words, because its finder takes the callbacks out of the trainer before it reads its checkpoint
pytestmark = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used:UserWarning")


class Tunable:
    """A student with a learning rate and a batch size that a finder may change."""

    learning_rate = 0.1
    batch_size = 2

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)  # pyright: ignore[reportAttributeAccessIssue]

    def train_dataloader(self) -> Any:
        return loader(12, self.batch_size)


class TunableStudent(Tunable, Student):  # pyright: ignore[reportIncompatibleMethodOverride]
    pass


class UnifiedTunableStudent(Tunable, UnifiedStudent):  # pyright: ignore[reportIncompatibleMethodOverride]
    pass


class TunableMixingStudent(Tunable, MixingStudent):  # pyright: ignore[reportIncompatibleMethodOverride]
    pass


def assert_all_mixed(student: Any, first: int = 0) -> None:
    """Every step had twice the batch size, of which the second half is no repetition of the first."""
    assert len(student.images) > first
    for images, labels in zip(student.images[first:], student.labels[first:], strict=True):
        half = len(images) // 2
        assert len(images) == len(labels) == 2 * half
        assert not torch.allclose(images[half:], images[:half], atol=0.05)


@pytest.mark.parametrize(
    ("package", "make_student"), [(pl, TunableStudent), (lightning.pytorch, UnifiedTunableStudent)]
)
def test_learning_rate_finder(tmp_path: Path, package: Any, make_student: Any) -> None:
    student, callback = make_student(), make_callback()
    trainer = make_trainer(tmp_path, callback, package=package)
    tuner = (Tuner if package is pl else lightning.pytorch.tuner.tuning.Tuner)(trainer)
    found = tuner.lr_find(
        student, num_training=5, min_lr=1e-4, max_lr=0.1, early_stop_threshold=None, update_attr=False
    )
    assert found is not None
    assert len(found.results["loss"]) == 5
    assert_all_mixed(student)
    assert "batch_to_device" not in vars(trainer.strategy)
    trials = len(student.batches)
    assert trials >= 5
    trainer.fit(student)
    assert trainer.callbacks.count(callback) == 1
    assert len(student.batches) == trials + 6
    for step, batch in enumerate(loader(12, 2)):
        student_step = trials + step
        assert torch.equal(student.images[student_step][:2], batch[0])
    assert_all_mixed(student, trials)


def test_fit_after_the_finder_is_the_fit_without_it(tmp_path: Path) -> None:
    """The streams of chance start over after the trial run, as the weights do."""
    plain, tuned = TunableStudent(), TunableStudent()
    make_trainer(tmp_path, make_callback()).fit(plain)
    trainer = make_trainer(tmp_path, make_callback())
    Tuner(trainer).lr_find(tuned, num_training=4, early_stop_threshold=None, update_attr=False)
    trials = len(tuned.batches)
    trainer.fit(tuned)
    assert_same_tensors(weights(tuned), weights(plain))
    assert torch.equal(tuned.images[trials], plain.images[0])


def test_learning_rate_finder_with_the_mixin(tmp_path: Path) -> None:
    student = TunableMixingStudent()
    trainer = make_trainer(tmp_path)
    Tuner(trainer).lr_find(student, num_training=4, early_stop_threshold=None, update_attr=False)
    trials = len(student.batches)
    assert trials >= 4
    trainer.fit(student)
    assert len(student.batches) == trials + 6
    assert_all_mixed(student)
    assert student.built == 1


def test_learning_rate_finder_as_a_callback(tmp_path: Path) -> None:
    student, callback = TunableStudent(), make_callback()
    finder = LearningRateFinder(num_training_steps=4, early_stop_threshold=None, update_attr=False)
    make_trainer(tmp_path, finder, callback).fit(student)
    assert len(student.batches) >= 4 + 6
    assert_all_mixed(student)
    for step in range(-6, 0):  # the real run: here the callback is back in the trainer, and knows its mix
        mix = student.mixes[step]
        assert mix is not None
        assert torch.equal(student.images[step][2:], mix.images)


@pytest.mark.parametrize(
    ("mixer", "engine"),
    [
        (SuperMix.fast(mask_size=4, max_steps=3), StreamEngine(budget=0.25)),
        pytest.param(SuperMix.fast(mask_size=4, max_steps=3), StreamEngine(reuse=4), marks=pytest.mark.slow),
        pytest.param(MixUp(), StreamEngine(), marks=pytest.mark.slow),
    ],
)
def test_streams_work_in_trial_runs_and_begin_anew_afterwards(tmp_path: Path, mixer: Any, engine: StreamEngine) -> None:
    """In the finder's run the steps are not timed, so that a budget waits."""
    plain, tuned = TunableStudent(), TunableStudent()
    without = copy.deepcopy(engine)
    make_trainer(tmp_path, make_callback(mixer=mixer, engine=without), max_epochs=5).fit(plain)
    trainer = make_trainer(tmp_path, make_callback(mixer=mixer, engine=engine), max_epochs=5)
    Tuner(trainer).lr_find(tuned, num_training=30, early_stop_threshold=None, update_attr=False)
    trials = len(tuned.batches)
    assert trials >= 30
    assert_all_mixed(tuned)
    trainer.fit(tuned)
    assert len(tuned.batches) == trials + 30
    assert engine.steps == 30
    alike = 30 if engine.budget is None else 10  # then it is planned with times, which differ
    for images, expected in list(zip(tuned.images[trials:], plain.images, strict=True))[:alike]:
        assert torch.equal(images, expected)


@pytest.mark.parametrize("mode", ["power", pytest.param("binsearch", marks=pytest.mark.slow)])
def test_batch_size_finder(tmp_path: Path, mode: Any) -> None:
    student = TunableStudent()
    trainer = make_trainer(tmp_path, make_callback())
    size = Tuner(trainer).scale_batch_size(student, mode=mode, init_val=2, max_trials=2, steps_per_trial=2, margin=0.0)
    assert size == student.batch_size == 4
    assert_all_mixed(student)
    assert {len(images) for images in student.images} == {4, 8}
    trials = len(student.batches)
    trainer.fit(student)
    assert len(student.batches) == trials + 3
    for step, batch in enumerate(loader(12, 4)):
        assert_extended(student, trials + step, *batch)


@pytest.mark.slow
def test_batch_size_finder_as_a_callback(tmp_path: Path) -> None:
    student = TunableStudent()
    finder = BatchSizeFinder("power", init_val=2, max_trials=2, steps_per_trial=1)
    make_trainer(tmp_path, make_callback(), finder).fit(student)
    assert finder.optimal_batch_size == 4
    assert_all_mixed(student)
    for step, batch in enumerate(loader(12, 4)):
        assert_extended(student, step - 3, *batch)
