"""However a fit ends, the strategy is as it was, and the next one works."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from tests.integration.test_packages import MixingStudent
from tests.integration.toys import Student, assert_extended, loader, make_callback, make_trainer, natural_data


class Failing(Student):
    """Raises in the step `fails_at`; in a hook before it if `early`."""

    def __init__(self, error: BaseException, fails_at: int = 1, early: bool = False) -> None:
        super().__init__()
        self.error, self.fails_at, self.early = error, fails_at, early

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.early and batch_idx == self.fails_at:
            raise self.error

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == self.fails_at:
            raise self.error
        return super().training_step(batch, batch_idx)


def test_after_a_normal_fit(tmp_path: Path) -> None:
    callback = make_callback()
    trainer = make_trainer(tmp_path, callback)
    before = dict(vars(trainer.strategy))
    trainer.fit(Student(), loader())
    assert "batch_to_device" not in vars(trainer.strategy)
    assert vars(trainer.strategy).keys() == before.keys()


def test_during_a_fit_it_is_there(tmp_path: Path) -> None:
    class Looking(Student):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert "batch_to_device" in vars(self.trainer.strategy)
            return super().training_step(batch, batch_idx)

    student = Looking()
    make_trainer(tmp_path, make_callback()).fit(student, loader(4))
    assert len(student.batches) == 1


@pytest.mark.parametrize("early", [False, True])
def test_after_an_exception(tmp_path: Path, early: bool) -> None:
    callback = make_callback()
    trainer = make_trainer(tmp_path, callback)
    with pytest.raises(ZeroDivisionError, match="power cut"):
        trainer.fit(Failing(ZeroDivisionError("power cut"), early=early), loader())
    assert "batch_to_device" not in vars(trainer.strategy)
    student = Student()
    make_trainer(tmp_path, callback).fit(student, loader())
    for step, batch in enumerate(loader()):
        assert_extended(student, step, *batch)


def test_after_a_keyboard_interrupt(tmp_path: Path) -> None:
    import signal

    handler = signal.getsignal(signal.SIGINT)
    trainer = make_trainer(tmp_path, make_callback())
    try:
        with pytest.raises(SystemExit):  # what Lightning makes of it
            trainer.fit(Failing(KeyboardInterrupt()), loader())
    finally:
        signal.signal(signal.SIGINT, handler)  # which Lightning turns off
    assert "batch_to_device" not in vars(trainer.strategy)


def test_after_an_exception_in_the_mixing_itself(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_callback(target_key=5))
    student = Student()
    with pytest.raises(KeyError, match="field 5"):
        trainer.fit(student, loader())
    assert "batch_to_device" not in vars(trainer.strategy)
    assert student.batches == []


def test_after_an_exception_in_the_setup_of_the_module(tmp_path: Path) -> None:
    class Broken(Student):
        def setup(self, stage: str) -> None:
            raise ZeroDivisionError("no data")

    trainer = make_trainer(tmp_path, make_callback())
    with pytest.raises(ZeroDivisionError, match="no data"):
        trainer.fit(Broken(), loader())
    assert "batch_to_device" not in vars(trainer.strategy)


def test_after_an_exception_with_the_mixin(tmp_path: Path) -> None:
    class Breaking(MixingStudent):
        fails = True

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.fails and batch_idx == 1:
                raise ZeroDivisionError("power cut")
            return super().training_step(batch, batch_idx)

    student = Breaking()
    trainer = make_trainer(tmp_path)
    with pytest.raises(ZeroDivisionError, match="power cut"):
        trainer.fit(student, loader())
    assert "batch_to_device" not in vars(trainer.strategy)
    student.fails = False
    make_trainer(tmp_path).fit(student, loader())
    assert_extended(student, 1, *natural_data(4))
    assert len(student.batches) == 4


def test_second_fit_with_the_same_trainer(tmp_path: Path) -> None:
    callback, student = make_callback(), Student()
    trainer = make_trainer(tmp_path, callback)
    trainer.fit(student, loader())
    trainer.fit_loop.max_epochs = 2
    trainer.fit(student, loader())
    assert len(student.batches) == 6
    for step, batch in enumerate([*loader(), *loader()]):
        assert_extended(student, step, *batch)
    assert "batch_to_device" not in vars(trainer.strategy)


def test_second_fit_after_an_exception_with_the_same_trainer(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_callback())
    with pytest.raises(ZeroDivisionError):
        trainer.fit(Failing(ZeroDivisionError(), fails_at=2), loader())
    student = Student()
    trainer.fit_loop.max_epochs = 3
    trainer.fit(student, loader())
    assert len(student.batches) >= 3
    assert all(len(images) == 8 for images in student.images)  # mixed, and not twice


def test_second_fit_after_an_exception_that_we_never_heard_of(tmp_path: Path) -> None:
    class Raising(pl.Callback):
        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            raise FileNotFoundError("no space to write the report")

    callback = make_callback()
    trainer = make_trainer(tmp_path, Raising(), callback)
    with pytest.raises(FileNotFoundError):
        trainer.fit(Failing(ZeroDivisionError()), loader())
    assert "batch_to_device" in vars(trainer.strategy)  # nobody told us
    student = Student()
    trainer.fit_loop.max_epochs = 3
    trainer.fit(student, loader())
    assert len(student.batches) >= 3
    assert all(len(images) == 8 for images in student.images)  # and still not mixed twice
    assert "batch_to_device" not in vars(trainer.strategy)


def test_a_wrapper_of_someone_else_stays(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_callback())
    transfer, moved = trainer.strategy.batch_to_device, []

    def counted(batch: Any, *args: Any, **options: Any) -> Any:
        moved.append(len(batch[0]))
        return transfer(batch, *args, **options)

    trainer.strategy.batch_to_device = counted
    student = Student()
    trainer.fit(student, loader(8))
    assert moved == [4, 4]
    assert_extended(student, 0, *natural_data(4))
    assert trainer.strategy.batch_to_device is counted
