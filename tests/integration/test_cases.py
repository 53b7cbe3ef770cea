"""What users reported: draws that repeat, labels that flip, mixes that outlive their batch, copies, advice."""

import copy
import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from supermix_pl import MixUp, StreamEngine, SuperMix, SuperMixCallback, SuperMixMixin
from supermix_pl.trainer import advice
from supermix_pl.trainer.rewriting import natural_share
from tests.integration.toys import (
    MIXER,
    NUM_CLASSES,
    IgnorantTeacher,
    StubbornTeacher,
    Student,
    Teacher,
    assert_extended,
    assert_same_tensors,
    loader,
    make_callback,
    make_trainer,
    natural_data,
    weights,
)
from tests.problems import FlatTeacher

FAST = SuperMix.fast(mask_size=4, max_steps=3)
ENGINES: dict[str, Any] = {"batch": "batch", "stream": "stream"}
each_engine = pytest.mark.parametrize("engine", ENGINES)


# Chance of transforms


@each_engine
@pytest.mark.parametrize("mixer", [FAST, MixUp()])
def test_pythons_and_numpys_draws_differ_in_every_batch_and_their_generators_stay(
    tmp_path: Path, mixer: Any, engine: str
) -> None:
    draws: list[tuple[float, float, float]] = []
    outside: list[tuple[float, float, float]] = []

    def draw() -> tuple[float, float, float]:
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    def transform(mixes: Tensor) -> Tensor:
        draws.append(draw())
        return mixes * (1 + draws[-1][0] / 100)

    class Drawing(Student):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            outside.append(draw())
            return super().training_step(batch, batch_idx)

    def seeded(*callbacks: Any) -> None:
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        torch.manual_seed(3)
        make_trainer(tmp_path, *callbacks, max_epochs=2).fit(Drawing(), loader(24))

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    seeded()
    plain, outside = list(outside), []
    seeded(make_callback(mixer=mixer, engine=engine, mixed_transform=transform))
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    assert outside == plain
    tried = 8 if mixer is FAST else 0  # draws in which the transform was tried out
    assert len(draws) >= tried + 12
    for generator in range(3):
        assert len({drawn[generator] for drawn in draws[tried:]}) == len(draws) - tried


# Labels of batches that are not mixed


class Binary(Student):
    """Takes rows of probabilities, and fails on class indices."""

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self.layer(batch[0].flatten(1)), batch[1])


SPARE: dict[str, dict[str, Any]] = {
    "stop_epoch": {"stop_epoch": 1},
    "start_epoch": {"start_epoch": 1},
    "every_n_batches": {"every_n_batches": 3},
    "probability": {"probability": 0.5, "seed": 1},
}


@pytest.mark.parametrize("schedule", SPARE)
@pytest.mark.parametrize("targets", ["soft", "teacher_soft", "pairs"])
@each_engine
def test_labels_keep_their_format_where_batches_are_not_mixed(
    tmp_path: Path, engine: str, targets: Any, schedule: str
) -> None:
    student = Student() if targets == "pairs" else Binary()
    callback = make_callback(mixer=FAST, engine=engine, targets=targets, **SPARE[schedule])
    make_trainer(tmp_path, callback, max_epochs=2).fit(student, loader(24))
    spared = [step for step, mix in enumerate(student.mixes) if mix is None]
    assert 0 < len(spared) < len(student.mixes)
    natural = list(loader(24))
    for step in spared:
        images, labels = natural[step % len(natural)]
        assert torch.equal(student.images[step], images)
        if targets == "pairs":
            assert torch.equal(student.labels[step][0], labels[:, None].expand(-1, 2))
            assert torch.equal(student.labels[step][1], torch.tensor([[1.0, 0.0]]).expand(4, -1))
        else:
            assert torch.equal(student.labels[step], torch.eye(NUM_CLASSES)[labels])


def test_blind_mixes_without_a_teacher_too(tmp_path: Path) -> None:
    student = Binary()
    callback = SuperMixCallback(None, MixUp(num_classes=NUM_CLASSES), targets="soft", stop_epoch=1)
    make_trainer(tmp_path, callback, max_epochs=2).fit(student, loader(8))
    assert [len(labels) for labels in student.labels] == [8, 8, 4, 4]
    assert torch.equal(student.labels[-1], torch.eye(NUM_CLASSES)[natural_data(8)[1][4:]])


# Mixes and their batches


class Mixing(SuperMixMixin, Student):
    """Looks at its mixes wherever it can."""

    def __init__(self, engine: str = "stream") -> None:
        super().__init__()
        self.engine = engine
        self.seen: list[tuple[str, bool, bool]] = []

    def configure_supermix(self) -> SuperMixCallback:
        return make_callback(mixer=FAST, engine=self.engine, label_natural=True)

    def look(self, where: str) -> None:
        callback = self._supermix_callback
        assert callback is not None
        self.seen.append((where, self.mix is None, callback.teacher_logits is None))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.look("training")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.look("validation")

    def on_train_end(self) -> None:
        self.look("end")


@each_engine
def test_mixes_and_logits_are_gone_in_validation_and_after_the_fit(tmp_path: Path, engine: str) -> None:
    student = Mixing(engine)
    trainer = make_trainer(tmp_path, max_epochs=2, val_check_interval=0.5)
    trainer.fit(student, loader(16), loader(8))
    known = {(where, mix, logits) for where, mix, logits in student.seen if where != "end"}
    assert known == {("training", False, False), ("validation", True, True)}
    student.look("after")
    assert student.seen[-1] == ("after", True, True)


# Copies


def local_transform(mixes: Tensor) -> Tensor:
    return mixes.flip(3)


@pytest.mark.parametrize("teacher", [Teacher(), FlatTeacher(NUM_CLASSES)])
@each_engine
def test_a_callback_is_copied_in_the_middle_of_a_fit_and_begins_anew(tmp_path: Path, engine: str, teacher: Any) -> None:
    copies: list[SuperMixCallback] = []

    class Copying(Student):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            for each in self.trainer.callbacks:
                if isinstance(each, SuperMixCallback) and batch_idx == 1:
                    assert each.mix is not None
                    copies.extend([copy.deepcopy(each), pickle.loads(pickle.dumps(each))])

    options: dict[str, Any] = {"engine": engine, "mixed_transform": local_transform, "save_state": True}
    callback = make_callback(teacher, FAST, **options)
    first = Copying()
    make_trainer(tmp_path, callback).fit(first, loader(24))
    assert len(copies) == 2
    for each in copies:
        assert (each.mix, each.teacher_logits, each._fit) == (None, None, None)
        assert each.teacher is not callback.teacher
        assert each._engine is each._rewriter.engine
        assert each.state_dict()["engine"] == make_callback(teacher, FAST, **options).state_dict()["engine"]
        student = Student()
        make_trainer(tmp_path, each).fit(student, loader(24))
        for images, expected in zip(student.images, first.images, strict=True):
            assert torch.equal(images, expected)


@each_engine
def test_a_module_with_the_mixin_is_copied_while_it_trains(tmp_path: Path, engine: str) -> None:
    """As averages of weights do it."""

    class Averaging(Mixing):
        copies: list[nn.Module]

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.copies.append(copy.deepcopy(self))

    student, plain = Averaging(engine), Mixing(engine)
    student.copies = []
    make_trainer(tmp_path).fit(student, loader(12), loader(4))
    make_trainer(tmp_path).fit(plain, loader(12), loader(4))
    assert len(student.copies) == 3
    assert_same_tensors(weights(student), weights(plain))
    assert_same_tensors(weights(student.copies[-1]), weights(plain))


@pytest.mark.parametrize("engine", ["stream", StreamEngine(budget=0.2), "batch"])
def test_a_callback_can_be_sent_to_another_process(engine: Any) -> None:
    callback = make_callback(build, FAST, engine=engine)
    again = pickle.loads(pickle.dumps(callback))
    assert repr(again._engine) == repr(callback._engine)
    assert again.mixer == FAST


def build() -> nn.Module:
    return Teacher()


# Natural labels, and what goes with them


@pytest.mark.parametrize(("given", "share"), [("given", 0.0), ("teacher", 1.0), (0, 0.0), (0.25, 0.25), (1, 1.0)])
def test_shares_of_the_teacher(given: Any, share: float) -> None:
    assert natural_share(given) == share


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"natural_targets": "teacher"}, 'expected targets="teacher_soft" for natural_targets='),
        ({"natural_targets": 0.5, "targets": "soft"}, "which has no room for the teacher's probabilities"),
        ({"natural_targets": "teacher", "targets": "pairs"}, 'got targets="pairs"'),
        ({"target_temperature": 4.0}, 'target_temperature=4, got targets="teacher"'),
        ({"target_temperature": 0.0, "targets": "teacher_soft"}, "expected target_temperature > 0, got 0.0"),
        (
            {"natural_targets": "both", "targets": "teacher_soft"},
            "expected natural_targets to be one of given, teacher",
        ),
        ({"natural_targets": 1.5, "targets": "teacher_soft"}, r"expected natural_targets in \[0, 1\], got 1.5"),
        ({"natural_targets": None, "targets": "teacher_soft"}, r"expected natural_targets in \[0, 1\], got None"),
        ({"label_natural": 1}, "expected label_natural to be True or False, got 1"),
    ],
)
def test_natural_labels_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_callback(**options)


def test_nobody_labels_natural_images_without_a_teacher() -> None:
    mixer = MixUp(num_classes=3)
    with pytest.raises(ValueError, match="expected a teacher for label_natural=True or a distillation_weight"):
        SuperMixCallback(None, mixer, targets="soft", label_natural=True)
    with pytest.raises(ValueError, match='expected a teacher for MixUp and targets="teacher_soft", got None'):
        SuperMixCallback(None, mixer, targets="teacher_soft", natural_targets="teacher")


@each_engine
def test_plain_cross_entropy_distils(tmp_path: Path, engine: str) -> None:
    """natural_targets="teacher": every row, mixed or not, has the teacher's softened probabilities."""
    teacher = FlatTeacher(NUM_CLASSES)
    callback = make_callback(
        teacher, FAST, engine=engine, targets="teacher_soft", natural_targets="teacher", target_temperature=3.0,
        every_n_batches=2,
    )  # fmt: skip
    student = Student()
    make_trainer(tmp_path, callback).fit(student, loader(16))
    assert [len(images) for images in student.images] == [8, 4, 8, 4]
    for images, labels in zip(student.images, student.labels, strict=True):
        expected = (FlatTeacher(NUM_CLASSES)(images) / 3.0).softmax(dim=1).detach()
        torch.testing.assert_close(labels, expected, atol=1e-4, rtol=1e-4)


class Distilling(pl.LightningModule):
    """Gives logits of images, so that its average can teach; keeps the labels."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Teacher()
        self.labels: list[Tensor] = []
        self.logits: list[Tensor | None] = []

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        callback = next(each for each in self.trainer.callbacks if isinstance(each, SuperMixCallback))  # pyright: ignore
        self.labels.append(batch[1])
        self.logits.append(callback.teacher_logits)
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_before_an_average_teaches_natural_rows_keep_the_given_labels(tmp_path: Path) -> None:
    student = Distilling()
    callback = SuperMixCallback(
        "ema", FAST, start_epoch=1, targets="teacher_soft", natural_targets="teacher", label_natural=True
    )
    make_trainer(tmp_path, callback, max_epochs=2).fit(student, loader(8))
    assert [len(labels) for labels in student.labels] == [4, 4, 8, 8]
    for labels, (_, given) in zip(student.labels[:2], loader(8), strict=True):
        assert torch.equal(labels, torch.eye(NUM_CLASSES)[given])
    assert student.logits[:2] == [None, None]
    for labels, logits in zip(student.labels[2:], student.logits[2:], strict=True):
        assert logits is not None
        torch.testing.assert_close(labels, logits.softmax(dim=1))


def test_a_given_teacher_labels_from_the_first_epoch_on(tmp_path: Path) -> None:
    student = Student()
    callback = make_callback(
        FlatTeacher(NUM_CLASSES), FAST, start_epoch=1, targets="teacher_soft", natural_targets="teacher"
    )
    make_trainer(tmp_path, callback, max_epochs=2).fit(student, loader(8))
    expected = FlatTeacher(NUM_CLASSES)(student.images[0]).softmax(dim=1).detach()
    torch.testing.assert_close(student.labels[0], expected, atol=1e-4, rtol=1e-4)


# Advice


def said_of(folder: Path, callback: SuperMixCallback, steps: int, classes: int, size: int = 4) -> list[str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        make_trainer(folder, callback).fit(Student(num_classes=classes), loader(size * steps, size))
    return [str(each.message) for each in said]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge batches 3 to 6 of a fit."""
    monkeypatch.setattr(advice, "_FIRST", 2)
    monkeypatch.setattr(advice, "_LAST", 6)


@pytest.mark.usefixtures("short")
@each_engine
def test_mixes_that_do_not_hold_are_told_of_once(tmp_path: Path, engine: str) -> None:
    callback = make_callback(StubbornTeacher(), FAST, engine=engine)
    said = said_of(tmp_path, callback, 20, NUM_CLASSES + 1)
    told = [message for message in said if message.startswith("Only ")]
    assert len(told) == 1
    assert "% of the mixes show the teacher the classes of their sources as its top classes, too few" in told[0]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("teacher", "mixer"), [(Teacher(), MIXER), (IgnorantTeacher(), MixUp()), (StubbornTeacher(), MixUp())]
)
@each_engine
def test_others_are_not_told(tmp_path: Path, engine: str, teacher: Any, mixer: Any) -> None:
    said = said_of(tmp_path, make_callback(teacher, mixer, engine=engine), 10, NUM_CLASSES + 1)
    assert not any(message.startswith("Only ") for message in said)


def test_a_stream_whose_sets_are_on_their_way_is_not_called_unsolved(tmp_path: Path) -> None:
    """None of the first sets is solved, as they have just begun; of the batch engine that is a word worth."""
    mixer = SuperMix(mask_size=4, max_steps=2)
    said = {
        engine: said_of(tmp_path, make_callback(StubbornTeacher(), mixer, engine=engine), 4, NUM_CLASSES + 1, size=3)
        for engine in ENGINES
    }
    told = {engine: sum("was solved within" in message for message in said[engine]) for engine in ENGINES}
    assert told == {"batch": 1, "stream": 0}


def test_the_default_is_the_recommendation(tmp_path: Path) -> None:
    callback = SuperMixCallback(Teacher())
    assert callback.mixer == SuperMix.fast()
    assert isinstance(callback._engine, StreamEngine)
    assert callback._rewriter.mode == "extend"
    assert callback._rewriter.targets == "teacher"
    assert callback._rewriter.mixed_transform == callback._engine.default_transform
    student = Student()
    make_trainer(tmp_path, callback).fit(student, loader(8))
    assert [len(images) for images in student.images] == [8, 8]
    assert torch.equal(student.images[1][:4], natural_data(8)[0][4:])


def test_the_batch_engine_is_still_there(tmp_path: Path) -> None:
    student = Student()
    make_trainer(tmp_path, make_callback()).fit(student, loader(4))
    assert_extended(student, 0, *natural_data(4))
