"""Both packages that Lightning comes in, the callback and the mixin, and ways to lose the mixing without a word."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException as UnifiedMisconfiguration
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from supermix_pl import FrozenTeacher, SuperMix, SuperMixCallback, SuperMixMixin
from tests.integration.toys import (
    MIXER,
    Steps,
    Student,
    Teacher,
    UnifiedStudent,
    assert_extended,
    assert_same_tensors,
    loader,
    make_callback,
    make_trainer,
    natural_data,
    weights,
)

PACKAGES = {"pytorch_lightning": (pl, Student), "lightning": (lightning.pytorch, UnifiedStudent)}


class Mixing(SuperMixMixin):
    """`configure_supermix` for the students below; keeps `self.mix` of every step."""

    own_mixes: list[Any] | None = None
    built = 0

    def configure_supermix(self) -> SuperMixCallback:
        self.built += 1
        return make_callback(seed=7)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.own_mixes = [*(self.own_mixes or []), self.mix]
        return super().training_step(batch, batch_idx)  # pyright: ignore[reportAttributeAccessIssue]


class MixingStudent(Mixing, Student):  # pyright: ignore[reportIncompatibleMethodOverride]
    pass


class UnifiedMixingStudent(Mixing, UnifiedStudent):  # pyright: ignore[reportIncompatibleMethodOverride]
    pass


MIXING = {"pytorch_lightning": (pl, MixingStudent), "lightning": (lightning.pytorch, UnifiedMixingStudent)}


@pytest.mark.parametrize("name", PACKAGES)
def test_callback(tmp_path: Path, name: str) -> None:
    package, make_student = PACKAGES[name]
    student = make_student()
    make_trainer(tmp_path, make_callback(), package=package).fit(student, loader(10))
    assert [len(images) for images in student.images] == [8, 8, 4]
    for step, batch in enumerate(loader(10)):
        assert_extended(student, step, *batch)


@pytest.mark.parametrize("name", MIXING)
def test_mixin(tmp_path: Path, name: str) -> None:
    package, make_student = MIXING[name]
    student = make_student()
    trainer = make_trainer(tmp_path, package=package)
    trainer.fit(student, loader(10))
    for step, batch in enumerate(loader(10)):
        assert_extended(student, step, *batch)
    assert student.own_mixes is not None
    assert all(own is mix for own, mix in zip(student.own_mixes, student.mixes, strict=True))
    assert sum(isinstance(callback, SuperMixCallback) for callback in trainer.callbacks) == 1


def test_callback_and_mixin_and_both_packages_do_the_same(tmp_path: Path) -> None:
    students = []
    for package, make_student in PACKAGES.values():
        students.append(make_student())
        make_trainer(tmp_path, make_callback(seed=7), package=package).fit(students[-1], loader())
    for package, make_student in MIXING.values():
        students.append(make_student())
        make_trainer(tmp_path, package=package).fit(students[-1], loader())
    plain = Student()
    make_trainer(tmp_path).fit(plain, loader())
    for student in students[1:]:
        assert_same_tensors(weights(student), weights(students[0]))
    assert not torch.equal(plain.layer.weight, students[0].layer.weight)


def test_mixin_keeps_its_callback_over_fits_and_trainers(tmp_path: Path) -> None:
    student = MixingStudent()
    trainer = make_trainer(tmp_path)
    trainer.fit(student, loader(4))
    trainer.fit_loop.max_epochs = 2
    trainer.fit(student, loader(4))
    make_trainer(tmp_path).fit(student, loader(4))
    assert student.built == 1
    assert [len(images) for images in student.images] == [8, 8, 8]


def test_mix_of_the_mixin_before_any_fit() -> None:
    assert MixingStudent().mix is None


def test_mixin_beside_callbacks_of_the_module(tmp_path: Path) -> None:
    class Counting(pl.Callback):
        epochs = 0

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.epochs += 1

    class Both(MixingStudent):
        counting = Counting()

        def configure_callbacks(self) -> Any:
            return [*super().configure_callbacks(), self.counting]

    class Base(Student):
        counting = Counting()

        def configure_callbacks(self) -> Any:
            return self.counting  # Lightning takes a single one too

    class Inherited(Mixing, Base):  # pyright: ignore[reportIncompatibleMethodOverride]
        pass

    for make_student in (Both, Inherited):
        student = make_student()
        make_trainer(tmp_path).fit(student, loader(8))
        assert student.counting.epochs == 1
        assert_extended(student, 0, *natural_data(4))


def test_mixin_behind_the_lightning_module() -> None:
    for base in (pl.LightningModule, lightning.pytorch.LightningModule):
        with pytest.raises(TypeError, match=r"expected class Behind\(SuperMixMixin, LightningModule\)"):

            class Behind(base, SuperMixMixin):  # pyright: ignore[reportUnusedClass, reportGeneralTypeIssues]
                pass


def test_mixin_behind_a_subclass_of_the_lightning_module() -> None:
    with pytest.raises(TypeError, match="name it first"):

        class Behind(Student, Mixing):  # pyright: ignore[reportUnusedClass, reportIncompatibleMethodOverride]
            pass


def test_mixin_without_configure_supermix(tmp_path: Path) -> None:
    class Forgetful(SuperMixMixin, Student):
        pass

    with pytest.raises(NotImplementedError, match="expected Forgetful to define configure_supermix"):
        make_trainer(tmp_path).fit(Forgetful(), loader())


def test_configure_supermix_that_returns_something_else(tmp_path: Path) -> None:
    class Wrong(SuperMixMixin, Student):
        def configure_supermix(self) -> Any:
            return SuperMix()

    with pytest.raises(TypeError, match=r"expected configure_supermix to return a SuperMixCallback, got SuperMix"):
        make_trainer(tmp_path).fit(Wrong(), loader())


def test_configure_callbacks_that_drops_ours(tmp_path: Path) -> None:
    class Dropping(MixingStudent):
        def configure_callbacks(self) -> Any:
            return []

    class Later(Dropping):
        pass

    for make_student in (Dropping, Later):
        student = make_student()
        with pytest.raises(TypeError, match=r"configure_callbacks to keep the callback of SuperMixMixin"):
            make_trainer(tmp_path).fit(student, loader())
        assert student.batches == []


def test_configure_callbacks_dropped_by_a_class_between(tmp_path: Path) -> None:
    class Between:
        def configure_callbacks(self) -> Any:
            return []

    class Student2(Between, MixingStudent):  # pyright: ignore[reportIncompatibleMethodOverride]
        pass

    student = Student2()
    with pytest.raises(TypeError, match=r"configure_callbacks to keep the callback of SuperMixMixin"):
        make_trainer(tmp_path).fit(student, loader())
    assert student.batches == []


class OtherCallback(SuperMixCallback):
    """Of another type, so that Lightning itself does not refuse it beside a SuperMixCallback."""


@pytest.mark.parametrize("make_other", [SuperMixCallback, OtherCallback])
def test_callback_beside_mixin(tmp_path: Path, make_other: Callable[..., SuperMixCallback]) -> None:
    student = MixingStudent()
    with pytest.raises(ValueError, match="expected no SuperMixCallback in the trainer beside the module's own"):
        make_trainer(tmp_path, make_other(Teacher(), MIXER)).fit(student, loader())
    assert student.batches == []


def test_two_callbacks(tmp_path: Path) -> None:
    for package, error in ((pl, MisconfigurationException), (lightning.pytorch, UnifiedMisconfiguration)):
        with pytest.raises((error, RuntimeError), match="SuperMixCallback"):  # Lightning's own words
            make_trainer(tmp_path, make_callback(), make_callback(), package=package)
    student = Student()
    with pytest.raises(ValueError, match="expected one SuperMixCallback in the trainer, got several"):
        make_trainer(tmp_path, make_callback(), OtherCallback(Teacher(), MIXER)).fit(student, loader())
    assert student.batches == []


def test_subclass_of_the_callback_mixes(tmp_path: Path) -> None:
    student = Student()
    make_trainer(tmp_path, OtherCallback(Teacher(), MIXER, engine="batch")).fit(student, loader(4))
    assert_extended(student, 0, *natural_data(4))


def test_base_class_that_is_both(tmp_path: Path) -> None:
    assert isinstance(make_callback(), pl.Callback)
    assert isinstance(make_callback(), lightning.pytorch.Callback)


def test_pickled_callback_mixes_the_same(tmp_path: Path) -> None:
    callback = make_callback(FrozenTeacher(Teacher(), mean=[0.1] * 3, std=[0.9] * 3), seed=5, targets="soft")
    copy = pickle.loads(pickle.dumps(callback))
    first, second = Student(), Student()
    make_trainer(tmp_path, callback).fit(first, loader())
    make_trainer(tmp_path, copy).fit(second, loader())
    assert copy.teacher is not callback.teacher
    assert len(second.images) == 3
    for images, expected in zip(second.images, first.images, strict=True):
        assert torch.equal(images, expected)


def build_teacher() -> nn.Module:
    return Teacher()


def test_pickled_builder(tmp_path: Path) -> None:
    copy = pickle.loads(pickle.dumps(make_callback(build_teacher)))
    assert copy.teacher is None
    student = Student()
    make_trainer(tmp_path, copy).fit(student, loader(4))
    assert_extended(student, 0, *natural_data(4))


def test_steps_know_nothing_of_us() -> None:
    assert not issubclass(Steps, SuperMixMixin)
    assert "configure_callbacks" not in vars(Steps)
