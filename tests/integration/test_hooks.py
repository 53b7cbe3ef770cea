"""The batch is mixed after everything that the user's own hooks do to it, and once."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from tests.integration.toys import Student, assert_extended, loader, make_callback, make_trainer, natural_data


class Hooks:
    """Transfer hooks that keep their order and change the images."""

    order: list[str]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.order.append("before")
        return [batch[0] * 0.5, batch[1]]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        self.order.append("transfer")
        return [value.to(device) for value in batch]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.order.append("after")
        assert len(batch[0]) == 4, "the user's hooks must see the natural batch"
        return [batch[0] + 0.25, batch[1]]


class HookedModule(Hooks, pl.LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.order = []

    def train_dataloader(self) -> Any:
        return loader(8)


class HookedStudent(Hooks, Student):
    def __init__(self) -> None:
        super().__init__()
        self.order = []


EXPECTED = [(images * 0.5 + 0.25, labels) for images, labels in loader(8)]


def test_datamodule_with_transfer_hooks(tmp_path: Path) -> None:
    student, data = Student(), HookedModule()
    make_trainer(tmp_path, make_callback()).fit(student, datamodule=data)
    assert data.order == 2 * ["before", "transfer", "after"]
    for step, natural in enumerate(EXPECTED):
        assert_extended(student, step, *natural)


def test_module_with_transfer_hooks(tmp_path: Path) -> None:
    student = HookedStudent()
    make_trainer(tmp_path, make_callback()).fit(student, loader(8))
    assert student.order == 2 * ["before", "transfer", "after"]
    for step, natural in enumerate(EXPECTED):
        assert_extended(student, step, *natural)


@pytest.mark.parametrize("engine", ["batch", "stream"])
def test_transfer_hooks_see_no_mix_of_the_batch_before(tmp_path: Path, engine: str) -> None:
    callback = make_callback(engine=engine, label_natural=True)

    class Asking(Student):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            assert callback.mix is None
            assert callback.teacher_logits is None
            return batch

        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
            return self.on_before_batch_transfer(batch, dataloader_idx)

        on_after_batch_transfer = on_before_batch_transfer

    student = Asking()
    make_trainer(tmp_path, callback, max_epochs=2).fit(student, loader())
    assert [mix is not None for mix in student.mixes] == [True] * 6


def test_on_train_batch_start_sees_the_mixes(tmp_path: Path) -> None:
    seen = []

    class Watching(Student):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
            seen.append(len(batch[0]))
            return -1 if batch_idx == 1 else None  # which skips the rest of the epoch

    student = Watching()
    make_trainer(tmp_path, make_callback(), max_epochs=2).fit(student, loader())
    assert seen == [8, 8, 8, 8]
    assert len(student.batches) == 2


def test_hook_that_skips_a_batch(tmp_path: Path) -> None:
    class Skipping(Student):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return None if torch.equal(batch[1], natural_data(8)[1][4:]) else batch

    student = Skipping()
    with pytest.warns(UserWarning, match="train_dataloader yielded None"):
        make_trainer(tmp_path, make_callback()).fit(student, loader())
    assert len(student.batches) == 2
    assert_extended(student, 0, *natural_data(4))


class Evaluated(Student):
    """Keeps the batches that it is evaluated on too."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluated: list[tuple[str, Any]] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluated.append(("sanity" if self.trainer.sanity_checking else "validation", batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluated.append(("test", batch))

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        self.evaluated.append(("predict", batch))
        return batch[1]


def test_sanity_and_validation_batches_are_natural(tmp_path: Path) -> None:
    student = Evaluated()
    trainer = make_trainer(tmp_path, make_callback(), num_sanity_val_steps=2, val_check_interval=1, max_epochs=2)
    trainer.fit(student, loader(8), loader(8))
    assert [stage for stage, _ in student.evaluated] == 2 * ["sanity"] + 8 * ["validation"]
    natural = list(loader(8))
    for number, (_, (images, labels)) in enumerate(student.evaluated):
        assert torch.equal(images, natural[number % 2][0])
        assert torch.equal(labels, natural[number % 2][1])
    for step in range(4):  # a validation run lies between each two of them
        assert_extended(student, step, *natural[step % 2])


@pytest.mark.parametrize("says_so", [False, True])
@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_train_batch_start", "on_before_optimizer_step"])
def test_validation_within_a_step_sees_no_mixes_and_leaves_them(tmp_path: Path, hook: str, says_so: bool) -> None:
    callback = make_callback()

    class Checked(Evaluated):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            assert callback.mix is None
            super().validation_step(batch, batch_idx)

    def validate(trainer: Any, *arguments: Any) -> None:
        first = trainer._logger_connector._first_loop_iter
        trainer.validating = says_so
        trainer.training = not says_so
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training, trainer._logger_connector._first_loop_iter = True, first

    validating = pl.Callback()
    setattr(validating, hook, validate)
    student = Checked()
    trainer = make_trainer(tmp_path, callback, validating, limit_val_batches=1)
    trainer.fit(student, loader(8), loader(4))
    assert len(student.evaluated) >= 2
    assert all(torch.equal(batch[0], natural_data(4)[0]) for _, batch in student.evaluated)
    assert [mix is not None for mix in student.mixes] == [True] * 2
    assert [len(images) for images in student.images] == [8, 8]


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_another_trainer_with_the_same_callback_in_the_midst_of_a_fit(tmp_path: Path, stage: str) -> None:
    callback, student = make_callback(), Student()

    class Nested(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            inner = make_trainer(tmp_path, callback, logger=False)
            if stage == "validate":
                inner.validate(Evaluated(), loader(4), verbose=False)
                return
            with pytest.raises(ValueError, match="in one fit at a time, got another fit that begins within it"):
                inner.fit(Student(), loader(4))

    make_trainer(tmp_path, callback, Nested()).fit(student, loader(8))
    assert [mix is not None for mix in student.mixes] == [True] * 2
    assert [len(images) for images in student.images] == [8, 8]


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_other_stages_do_nothing(tmp_path: Path, stage: str) -> None:
    def build() -> Any:
        raise AssertionError("the teacher must not be built")

    student = Evaluated()
    trainer = make_trainer(tmp_path, make_callback(build))
    getattr(trainer, stage)(student, loader(8), **({} if stage == "predict" else {"verbose": False}))
    assert [len(batch[0]) for _, batch in student.evaluated] == [4, 4]
    assert torch.equal(student.evaluated[0][1][0], natural_data(4)[0])
    assert "batch_to_device" not in vars(trainer.strategy)


def test_other_stages_after_a_fit_do_nothing(tmp_path: Path) -> None:
    student, callback = Evaluated(), make_callback()
    trainer = make_trainer(tmp_path, callback)
    trainer.fit(student, loader(8), loader(8))
    mix = callback.mix
    assert len(student.images[0]) == 8
    trainer.validate(student, loader(8), verbose=False)
    trainer.test(student, loader(8), verbose=False)
    trainer.predict(student, loader(8))
    assert [len(batch[0]) for _, batch in student.evaluated] == 10 * [4]
    assert callback.mix is mix


@pytest.mark.filterwarnings("ignore:You are using the `dataloader_iter` step flavor:UserWarning")
def test_dataloader_iter_is_refused(tmp_path: Path) -> None:
    class Fetching(Student):
        def training_step(self, dataloader_iter: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            batch, _, _ = next(dataloader_iter)
            return self.loss(batch)

    with pytest.raises(ValueError, match=r"got training_step\(dataloader_iter\).*take `batch`"):
        make_trainer(tmp_path, make_callback()).fit(Fetching(), loader())
