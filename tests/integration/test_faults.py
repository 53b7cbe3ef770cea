"""What goes wrong in a run of either engine, and what it must survive: teachers, odd loaders, too little memory."""

import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermix_pl import MixedBatch, SuperMix
from supermix_pl.engine import BatchEngine, Engine, StreamEngine
from tests.integration.test_logging import Watching
from tests.integration.toys import (
    NUM_CLASSES,
    Student,
    Teacher,
    loader,
    loader_of,
    make_callback,
    make_trainer,
    natural_data,
    weights,
)
from tests.problems import BlindToMarked, mark

EPOCHS = 4
SLOW_MIXER = SuperMix(k=2, mask_size=4, min_steps=3, max_steps=4, max_logit_step=1.0, pairing="random")


def engine_of(name: str, **options: Any) -> Engine:
    return BatchEngine() if name == "batch" else StreamEngine(**{"reuse": 1, **options})


def from_pool(student: Student) -> list[bool]:
    return [mix is not None and bool((mix.source_indices == -1).all()) for mix in student.mixes]


both = pytest.mark.parametrize("engine", ["batch", "stream"])


@both
def test_images_that_the_teacher_cannot_see(tmp_path: Path, engine: str) -> None:
    """Their sets end non-finite, as their natural image or with the labels of the sources; the log counts them."""
    images, labels = natural_data(16)
    images = mark(images, 1, 6, 11)
    student = Watching()
    held = engine_of(engine, default_transform=None)
    callback = make_callback(BlindToMarked(Teacher()), engine=held, seed=3)
    data = loader_of([(images[rows], labels[rows]) for rows in torch.arange(16).split(4)])
    make_trainer(tmp_path, callback, max_epochs=EPOCHS).fit(student, data)
    assert len(student.mixes) == 4 * EPOCHS
    assert any(from_pool(student)) == (engine == "stream")
    counted = 0
    for step, mix in enumerate(student.mixes):
        assert mix is not None
        assert mix.images.isfinite().all()
        assert mix.teacher_logits is not None
        assert mix.teacher_logits.isfinite().all()
        assert student.labels[step].max() < NUM_CLASSES
        for row in mix.non_finite.nonzero().flatten().tolist():
            near = (images - mix.images[row]).abs().flatten(1).amax(dim=1).amin() < 0.02  # 8 bits in a stream
            torch_labels = torch.allclose(mix.teacher_logits[row].softmax(dim=0), mix.soft_targets[row], atol=1e-5)
            assert near or (torch_labels and engine == "stream")
        assert student.logged[step]["supermix/non_finite_fraction"] == mix.non_finite.float().mean()
        counted += int(mix.non_finite.sum())
    assert 6 <= counted <= 40  # of 64; a marked image is in one or two sets of its batch
    assert all(value.isfinite().all() for value in weights(student).values())


@pytest.mark.filterwarnings("ignore:a batch of 1 images is smaller than k=2:UserWarning")
@both
def test_the_log_counts_none_where_there_are_none(tmp_path: Path, engine: str) -> None:
    student = Watching()
    make_trainer(tmp_path, make_callback(engine=engine_of(engine)), max_epochs=2).fit(student, loader(9))
    assert [logged["supermix/non_finite_fraction"] for logged in student.logged] == 6 * [0.0]


class TeacherBroke(Exception):
    pass


class Breaking(Teacher):
    """Fails in its last pass but `passes`."""

    def __init__(self, passes: int, error: Exception) -> None:
        super().__init__()
        self.passes, self.error = passes, error

    def forward(self, images: Tensor) -> Tensor:
        self.passes -= 1
        if self.passes < 0:
            raise self.error
        return super().forward(images)


@both
@pytest.mark.parametrize("passes", [0, 2, 9])
def test_a_teacher_that_raises(tmp_path: Path, engine: str, passes: int) -> None:
    """In its look at the first batch, in the middle of a solve, and in a later step."""
    error = TeacherBroke("no such operator")
    callback = make_callback(Breaking(passes, error), SLOW_MIXER, engine=engine_of(engine), save_state=True)
    trainer = make_trainer(tmp_path, callback)
    before = dict(vars(trainer.strategy))
    student = Student()
    with pytest.raises(TeacherBroke, match="no such operator") as caught:
        trainer.fit(student, loader(32))
    assert caught.value is error
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert (frames[-1].name, Path(frames[-1].filename).name) == ("forward", "test_faults.py")
    assert frames[-1].line == "raise self.error"
    assert len(student.batches) == (0 if passes < 9 else 1 if engine == "batch" else 2)
    assert vars(trainer.strategy).keys() == before.keys()


@both
def test_a_teacher_that_does_not_fit_is_named_with_its_own_error(tmp_path: Path, engine: str) -> None:
    trainer = make_trainer(tmp_path, make_callback(nn.Linear(7, 3), engine=engine_of(engine)))
    with pytest.raises(ValueError, match="the teacher failed on images of shape") as caught:
        trainer.fit(Student(), loader())
    cause = caught.value.__cause__
    assert isinstance(cause, RuntimeError)
    assert "linear" in "".join(traceback.format_tb(cause.__traceback__))
    assert not {"batch_to_device", "save_checkpoint"} & vars(trainer.strategy).keys()


@both
@pytest.mark.parametrize("count", [9, 10])
@pytest.mark.filterwarnings(r"ignore:a batch of \d images is smaller than k=3:UserWarning")
def test_a_last_batch_that_is_smaller_than_k(tmp_path: Path, engine: str, count: int) -> None:
    student = Student()
    mixer = SuperMix(k=3, mask_size=4, max_steps=3)
    callback = make_callback(mixer=mixer, engine=engine_of(engine))
    make_trainer(tmp_path, callback, max_epochs=EPOCHS).fit(student, loader(count))
    assert [len(images) for images in student.images] == EPOCHS * [8, 8, 2 * (count - 8)]
    assert all(len(labels) == len(images) for labels, images in zip(student.labels, student.images, strict=True))
    assert from_pool(student)[-1] == (engine == "stream")


@both
def test_a_loader_of_single_images(tmp_path: Path, engine: str) -> None:
    """In a batch there is never a second image to mix with: every set is its image alone. A stream has others."""
    student = Student()
    callback = make_callback(engine=engine_of(engine, default_transform=None))
    trainer = make_trainer(tmp_path, callback, max_epochs=EPOCHS)
    if engine == "batch":
        with pytest.warns(UserWarning, match="a batch of 1 images is smaller than k=2"):
            trainer.fit(student, loader(6, 1))
    else:
        trainer.fit(student, loader(6, 1))
    assert [len(images) for images in student.images] == 6 * EPOCHS * [2]
    alone = [torch.allclose(images[:1], images[1:], atol=1e-2) for images in student.images]
    natural = natural_data(6)[0]
    known = [(natural - images[1]).abs().amax(dim=(1, 2, 3)).amin() < 1e-2 for images in student.images]
    if engine == "batch":
        assert all(alone)
    else:  # of the images that came before; the first set, of one image twice, may be replayed
        assert alone[0]
        assert sum(map(bool, known[-12:])) <= 3


@both
@pytest.mark.parametrize("options", [{"pairing": "distinct"}, {"pairing": "shift", "classes": "labels"}])
def test_a_class_that_appears_once(tmp_path: Path, engine: str, options: dict[str, Any]) -> None:
    images, labels = natural_data(24)
    rows = torch.cat([torch.arange(0, 21, 3), torch.tensor([1])])  # seven of class 0, one of class 1
    mixer = SuperMix(mask_size=4, max_steps=4, max_logit_step=1.0, **options)
    callback = make_callback(mixer=mixer, engine=engine_of(engine))
    student = Student()
    make_trainer(tmp_path, callback, max_epochs=EPOCHS).fit(student, loader_of([(images[rows], labels[rows])]))
    assert [len(images) for images in student.images] == EPOCHS * [16]
    mixes: list[MixedBatch] = [mix for mix in student.mixes if mix is not None]
    assert from_pool(student)[-1] == (engine == "stream")
    for mix in mixes:
        assert mix.solved.all() or engine == "stream"  # which shows sets of all ages
        assert set(mix.source_classes.flatten().tolist()) <= {0, 1}
    assert any((mix.source_classes == 1).any() for mix in mixes)


class Greedy(Teacher):
    """Has memory for so many images with a gradient, from some pass on."""

    def __init__(self, memory: int, free_passes: int) -> None:
        super().__init__()
        self.memory, self.free_passes, self.refused = memory, free_passes, 0

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            self.free_passes -= 1
            if self.free_passes < 0 and len(images) > self.memory:
                self.refused += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(images)


@both
@pytest.mark.parametrize("free_passes", [1, pytest.param(9, marks=pytest.mark.slow)])
def test_out_of_memory_in_the_middle_of_a_solve(tmp_path: Path, engine: str, free_passes: int) -> None:
    """In the first batch and in a later one: every batch is complete, and of the mixes it would have had."""
    students = []
    for teacher in (Teacher(), Greedy(5, free_passes)):
        held = BatchEngine() if engine == "batch" else StreamEngine(reuse=4)
        callback = make_callback(teacher, SLOW_MIXER, engine=held)
        trainer = make_trainer(tmp_path, callback, max_epochs=EPOCHS)
        student = Student()
        if isinstance(teacher, Greedy):
            with pytest.warns(UserWarning, match="the teacher ran out of memory with .* This is said once"):
                trainer.fit(student, loader(24, 8))
            assert teacher.refused in (1, 2)
        else:
            trainer.fit(student, loader(24, 8))
        students.append(student)
    whole, short = students
    assert any(from_pool(short)) == (engine == "stream")
    for images, expected in zip(short.images, whole.images, strict=True):
        torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)
    for labels, expected in zip(short.labels, whole.labels, strict=True):
        assert torch.equal(labels, expected)
