"""The teacher is never trained, never saved, never seen by the module, the optimizer or the strategy."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.utilities.model_summary.model_summary import summarize
from torch import nn

from supermix_pl import FrozenTeacher, SuperMixCallback
from tests.integration.test_packages import MixingStudent
from tests.integration.toys import (
    MIXER,
    NUM_CLASSES,
    SIDE,
    Student,
    Teacher,
    assert_mix_of,
    assert_same_tensors,
    loader,
    make_callback,
    make_trainer,
    natural_data,
    weights,
)


@pytest.mark.parametrize("late", [False, True])
def test_untouched_by_a_fit(tmp_path: Path, late: bool) -> None:
    teacher = Teacher().train()
    before = copy.deepcopy(teacher.state_dict())
    callback = make_callback((lambda: teacher) if late else teacher)
    student = Student(optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.1, weight_decay=0.1))
    student_before = weights(student)
    make_trainer(tmp_path, callback, max_epochs=2).fit(student, loader())
    assert callback.teacher is not None
    assert callback.teacher.module is teacher
    assert_same_tensors(teacher.state_dict(), before)  # its batch statistics among them
    assert before.keys() >= {"norm.running_mean", "norm.num_batches_tracked"}
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(not torch.equal(value, student_before[name]) for name, value in weights(student).items())


class Distilling(MixingStudent):
    """Uses the teacher itself too, through the callback, and looks at it in every step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        assert self._supermix_callback is not None
        teacher = self._supermix_callback.teacher
        assert teacher is not None
        self.train()  # which must not reach the teacher
        assert not teacher.module.training
        assert not any(module is teacher.module for module in self.modules())
        logits = self.layer(batch[0].flatten(1))
        self.keep(batch)
        return nn.functional.mse_loss(logits, teacher(batch[0]))


def test_out_of_reach_of_module_and_optimizer(tmp_path: Path) -> None:
    student = Distilling()
    trainer = make_trainer(tmp_path)
    trainer.fit(student, loader())
    assert len(student.batches) == 3
    own = {id(student.layer.weight), id(student.layer.bias)}
    assert {id(parameter) for parameter in student.parameters()} == own
    assert set(student.state_dict()) == {"layer.weight", "layer.bias"}
    (optimizer,) = trainer.optimizers
    assert {id(parameter) for group in optimizer.param_groups for parameter in group["params"]} == own


@pytest.mark.parametrize("make_student", [Student, MixingStudent])
def test_absent_from_the_checkpoint(tmp_path: Path, make_student: type[Student]) -> None:
    student = make_student()
    callback = make_callback(seed=3)
    callbacks = [] if make_student is MixingStudent else [callback]
    trainer = make_trainer(tmp_path, *callbacks)
    trainer.fit(student, loader())
    trainer.save_checkpoint(tmp_path / "all.ckpt")
    checkpoint = torch.load(tmp_path / "all.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == {"layer.weight", "layer.bias"}
    (state,) = checkpoint["callbacks"].values()
    assert state["seed"] == (7 if make_student is MixingStudent else 3)
    assert state["labels_seen"] == state["labels_hit"] == 12
    assert state.pop("engine") == {}
    assert all(type(value) is int for value in state.values())
    tensors = list(_tensors(checkpoint))
    assert len(tensors) == 2  # the student's, once: no momentum, no teacher
    fresh = make_student()
    fresh.load_state_dict(checkpoint["state_dict"], strict=True)
    assert_same_tensors(weights(fresh), weights(student))


def _tensors(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from _tensors(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _tensors(child)


def test_teacher_that_is_turned_to_training_meanwhile(tmp_path: Path) -> None:
    teacher = Teacher()
    before = copy.deepcopy(teacher.state_dict())

    class Careless(Student):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            teacher.train()

    student = Careless()
    make_trainer(tmp_path, make_callback(teacher)).fit(student, loader())
    assert_same_tensors(teacher.state_dict(), before)


def test_built_once_and_kept_for_later_fits(tmp_path: Path) -> None:
    built = []

    def build() -> FrozenTeacher:
        built.append(FrozenTeacher(Teacher()))
        return built[-1]

    callback = SuperMixCallback(build, MIXER, engine="batch")
    assert callback.teacher is None
    for _ in range(2):
        make_trainer(tmp_path, callback).fit(Student(), loader(4))
    assert len(built) == 1
    assert callback.teacher is built[0]


def test_own_normalisation(tmp_path: Path) -> None:
    """Batches normalised one way and a teacher trained another way: the mixes of the un-normalised run, normalised."""
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    shift, scale = (torch.tensor(values)[:, None, None] for values in (mean, std))

    class Normalising(Student):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [(batch[0] - shift) / scale, batch[1]]

    plain, normalised = Student(), Normalising()
    make_trainer(tmp_path, make_callback(Teacher())).fit(plain, loader(4))
    teacher = FrozenTeacher(Teacher(), input_mean=mean, input_std=std)
    make_trainer(tmp_path, make_callback(teacher)).fit(normalised, loader(4))
    torch.testing.assert_close(normalised.images[0] * scale + shift, plain.images[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(normalised.labels[0], plain.labels[0])


def test_teacher_that_shares_a_parameter(tmp_path: Path) -> None:
    student = Student()
    shared = nn.Sequential(nn.Flatten(), student.layer)
    with pytest.raises(ValueError, match=r"shares no parameter with the trained module, got 2 shared, 'layer.weight'"):
        make_trainer(tmp_path, make_callback(shared)).fit(student, loader())
    assert student.batches == []


def test_teacher_as_an_attribute_of_the_module(tmp_path: Path) -> None:
    student, teacher = Student(), Teacher()
    student.teacher = teacher
    with pytest.raises(ValueError, match="keep the teacher out of the module's attributes"):
        make_trainer(tmp_path, make_callback(teacher)).fit(student, loader())


def test_copy_of_the_students_own_start_is_fine(tmp_path: Path) -> None:
    student = Student()
    before = weights(student)
    teacher = nn.Sequential(nn.Flatten(), copy.deepcopy(student.layer))
    make_trainer(tmp_path, make_callback(teacher)).fit(student, loader(4))
    assert torch.equal(before["layer.weight"], teacher.get_submodule("1").weight)  # pyright: ignore[reportArgumentType]
    assert not torch.equal(student.layer.weight, before["layer.weight"])


class Small(nn.Module):
    """A teacher for one image size only, with an output object instead of a tensor."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.layer = nn.Linear(NUM_CLASSES * side * side, NUM_CLASSES)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(NUM_CLASSES).repeat_interleave(side * side, dim=1) * 20 / side**2)
            self.layer.bias.zero_()

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.layer(images.flatten(1))}


def test_teacher_with_another_image_size(tmp_path: Path) -> None:
    student = Student()
    with pytest.raises(ValueError, match=r"the teacher failed on images of shape \(4, 3, 8, 8\).*image_size="):
        make_trainer(tmp_path, make_callback(Small(SIDE // 2))).fit(student, loader())
    assert student.batches == []
    make_trainer(tmp_path, make_callback(FrozenTeacher(Small(SIDE // 2), image_size=SIDE // 2))).fit(student, loader(4))
    assert_mix_of(student.mixes[0], natural_data(4)[0])
    mix = student.mixes[0]
    assert mix is not None
    assert bool(mix.solved.all())


def test_model_summary_does_not_count_the_teacher(tmp_path: Path) -> None:
    student = MixingStudent()
    make_trainer(tmp_path).fit(student, loader(4))
    summary = summarize(student)
    assert summary.total_parameters == NUM_CLASSES * NUM_CLASSES * SIDE * SIDE + NUM_CLASSES
