"""Every way of stepping: accumulation, half precision, closures that run often, manual optimization, compilation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, StochasticWeightAveraging

from tests.integration.test_packages import MixingStudent
from tests.integration.toys import (
    Student,
    Teacher,
    assert_extended,
    assert_mix_of,
    assert_same_tensors,
    loader,
    make_callback,
    make_trainer,
    natural_data,
    weights,
)


def test_gradient_accumulation_is_the_mean_over_the_mixed_batches(tmp_path: Path) -> None:
    student = Student()
    make_trainer(tmp_path, make_callback(), accumulate_grad_batches=2).fit(student, loader(16))
    assert student.trainer.global_step == 2
    assert [len(images) for images in student.images] == [8, 8, 8, 8]
    assert not torch.equal(student.images[0][4:], student.images[1][4:])
    by_hand = Student()
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for first in (0, 2):
        optimizer.zero_grad()
        for batch in student.batches[first : first + 2]:
            (by_hand.loss(batch) / 2).backward()
        optimizer.step()
    for name, value in weights(student).items():
        torch.testing.assert_close(value, weights(by_hand)[name])


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precision(tmp_path: Path, precision: str) -> None:
    student, callback = Student(), make_callback(targets="soft")
    make_trainer(tmp_path, callback, precision=precision).fit(student, loader(8))
    dtype = {"bf16-mixed": torch.float32, "bf16-true": torch.bfloat16, "64-true": torch.float64}[precision]
    images, labels = natural_data(4)
    mix = student.mixes[0]
    assert mix is not None
    assert student.images[0].dtype == mix.images.dtype == dtype
    assert_mix_of(mix, images.to(dtype))
    assert torch.equal(student.images[0], torch.cat([images.to(dtype), mix.images]))
    assert mix.masks.dtype in (torch.float32, torch.float64)  # the solver never works in half precision
    assert bool(mix.solved.any())
    assert callback.teacher is not None
    assert {parameter.dtype for parameter in callback.teacher.module.parameters()} == {torch.float32}
    natural = torch.nn.functional.one_hot(labels, 3).to(student.labels[0].dtype)
    assert torch.equal(student.labels[0][:4], natural)


def test_mixed_precision_does_not_change_the_mixes(tmp_path: Path) -> None:
    students = []
    for precision in ("32-true", "bf16-mixed"):
        students.append(Student())
        make_trainer(tmp_path, make_callback(), precision=precision).fit(students[-1], loader())
    for images, expected in zip(students[1].images, students[0].images, strict=True):
        assert torch.equal(images, expected)  # the hooks run outside autocast, and the solver leaves it
    assert not torch.equal(students[0].layer.weight, students[1].layer.weight)


def test_closure_that_runs_often_mixes_once(tmp_path: Path) -> None:
    calls = []

    class Counted(Teacher):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            calls.append(len(images))
            return super().forward(images)

    student = Student(optimizer=lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=4))
    make_trainer(tmp_path, make_callback(Counted())).fit(student, loader(8))
    assert len(student.batches) >= 6  # the closure ran several times for each of the two batches
    different = {id(mix): mix for mix in student.mixes if mix is not None}
    assert len(different) == 2
    once = 4  # images of the first batch, to see whether its logits repeat
    assert sum(calls) == sum(mix.teacher_forwards for mix in different.values()) + once
    assert_extended(student, 0, *natural_data(4))
    assert_extended(student, 1, *natural_data(4))


class Manual(Student):
    """Two optimizers and three steps a batch, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.keep(batch)
        for optimizer in self.optimizers():  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD([self.layer.weight], lr=0.1), torch.optim.SGD([self.layer.bias], lr=0.1)]


def test_manual_optimization(tmp_path: Path) -> None:
    student, before = Manual(), weights(Manual())
    make_trainer(tmp_path, make_callback()).fit(student, loader())
    assert [len(images) for images in student.images] == [8, 8, 8]
    for step, batch in enumerate(loader()):
        assert_extended(student, step, *batch)
    assert all(not torch.equal(value, before[name]) for name, value in weights(student).items())


def test_teacher_gets_no_gradient_from_the_students_loss(tmp_path: Path) -> None:
    student, callback = Student(), make_callback(targets="teacher_soft")
    make_trainer(tmp_path, callback).fit(student, loader(4))
    assert callback.teacher is not None
    assert all(parameter.grad is None for parameter in callback.teacher.module.parameters())
    assert not student.images[0].requires_grad
    assert not student.labels[0].requires_grad


def test_anomaly_detection_and_gradient_clipping(tmp_path: Path) -> None:
    student = Student()
    make_trainer(tmp_path, make_callback(), detect_anomaly=True, gradient_clip_val=1e-3).fit(student, loader(4))
    change = torch.cat([(weights(student)[name] - value).flatten() for name, value in weights(Student()).items()])
    assert 0 < change.norm() <= 1.01e-4  # lr x clip


def test_images_that_ask_for_gradients(tmp_path: Path) -> None:
    class Adversarial(Student):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [batch[0].requires_grad_(), batch[1]]

    student = Adversarial()
    make_trainer(tmp_path, make_callback(mode="replace")).fit(student, loader(4))
    assert_mix_of(student.mixes[0], natural_data(4)[0])
    assert not student.images[0].requires_grad


class Compilable(Student):
    """Without the run-time type checks of our loss, which the compiler does not understand."""

    def loss(self, batch: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_module(tmp_path: Path, backend: str) -> None:
    student, plain = Compilable(), Compilable()
    compiled = torch.compile(student, backend=backend)
    make_trainer(tmp_path, make_callback()).fit(compiled, loader(8))
    make_trainer(tmp_path, make_callback()).fit(plain, loader(8))
    assert len(student.batches) == 2
    assert_extended(student, 0, *natural_data(4))
    for name, value in weights(student).items():
        torch.testing.assert_close(value, weights(plain)[name])


@pytest.mark.parametrize("make_student", [Student, MixingStudent])
@pytest.mark.parametrize("averaging", [lambda: StochasticWeightAveraging(0.01, swa_epoch_start=1), EMAWeightAveraging])
def test_weight_averaging_which_copies_the_module(tmp_path: Path, averaging: Any, make_student: Any) -> None:
    student = make_student()
    callbacks = [averaging()] if make_student is MixingStudent else [make_callback(), averaging()]
    make_trainer(tmp_path, *callbacks, max_epochs=2).fit(student, loader())
    assert len(student.batches) == 6
    for step, batch in enumerate([*loader(), *loader()]):
        assert_extended(student, step, *batch)


def test_fast_dev_run(tmp_path: Path) -> None:
    student = Student()
    make_trainer(tmp_path, make_callback(), fast_dev_run=2).fit(student, loader())
    assert [len(images) for images in student.images] == [8, 8]


def test_overfit_batches_repeat_the_images_but_not_the_mixes(tmp_path: Path) -> None:
    student = Student()
    trainer = make_trainer(tmp_path, make_callback(), overfit_batches=1, max_epochs=2)
    trainer.fit(student, loader())
    first, second = student.images
    assert torch.equal(first[:4], second[:4])
    assert not torch.equal(first[4:], second[4:])


def test_unchanged_without_the_callback(tmp_path: Path) -> None:
    """The callback with probability 0 is the plain run, to the bit."""
    plain, unmixed = Student(), Student()
    make_trainer(tmp_path).fit(plain, loader())
    make_trainer(tmp_path, make_callback(probability=0.0)).fit(unmixed, loader())
    assert_same_tensors(weights(unmixed), weights(plain))
    assert unmixed.mixes == [None, None, None]
