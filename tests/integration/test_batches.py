"""Every kind of batch, key, mode and label format on its way through a Trainer."""

import dataclasses
from collections import namedtuple
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.nn.functional import one_hot

from supermix_pl import CutMix, MixedBatch, MixUp, SuperMix, SuperMixCallback
from supermix_pl.engine import Engine
from tests.integration.toys import (
    MIXER,
    NUM_CLASSES,
    Student,
    assert_extended,
    assert_mix_of,
    loader,
    loader_of,
    make_callback,
    make_trainer,
    natural_data,
)

SIZE = 4


class Named(NamedTuple):
    image: Tensor
    label: Tensor
    ids: Tensor


Bare = namedtuple("Bare", ["label", "image"])


@dataclasses.dataclass
class Data:
    image: Tensor
    label: Tensor
    path: list[str]


@dataclasses.dataclass(frozen=True)
class FrozenData:
    image: Tensor
    label: Tensor


class Holder:
    """An object with attributes, which Lightning moves as `transfer` says."""

    def __init__(self, image: Tensor, label: Tensor) -> None:
        self.image, self.label = image, label

    def to(self, device: torch.device) -> "Holder":
        return Holder(self.image.to(device), self.label.to(device))


def put(batch: Any, value: Any) -> None:
    batch["x"] = value


IMAGES, LABELS = natural_data(SIZE)
IDS = torch.arange(SIZE) + 100
PATHS = [f"{i}.png" for i in range(SIZE)]
KINDS = {
    "list": ([IMAGES, LABELS], 0, 1, itemgetter(0), itemgetter(1)),
    "tuple": ((IMAGES, LABELS), 0, 1, itemgetter(0), itemgetter(1)),
    "negative positions": ((IDS, LABELS, IMAGES), -1, -2, itemgetter(2), itemgetter(1)),
    "dict": ({"x": IMAGES, "y": LABELS}, "x", "y", itemgetter("x"), itemgetter("y")),
    "name with a dot": ({"x.y": IMAGES, "y": LABELS}, "x.y", "y", itemgetter("x.y"), itemgetter("y")),
    "named tuple by name": (Named(IMAGES, LABELS, IDS), "image", "label", itemgetter(0), itemgetter(1)),
    "named tuple by position": (Bare(LABELS, IMAGES), 1, 0, attrgetter("image"), attrgetter("label")),
    "data class": (Data(IMAGES, LABELS, PATHS), "image", "label", attrgetter("image"), attrgetter("label")),
    "nested": (
        {"ids": IDS, "views": [(IMAGES, IDS), {"y": LABELS}]},
        "views.0.0",
        "views.1.y",
        lambda batch: batch["views"][0][0],
        lambda batch: batch["views"][1]["y"],
    ),
    "get and set": (
        {"x": IMAGES, "y": LABELS},
        (itemgetter("x"), put),
        (itemgetter("y"), lambda batch, value: {**batch, "y": value}),
        itemgetter("x"),
        itemgetter("y"),
    ),
    "object": (Holder(IMAGES, LABELS), "image", "label", attrgetter("image"), attrgetter("label")),
}


def fit(folder: Path, student: Student, callback: SuperMixCallback, *batches: Any) -> None:
    make_trainer(folder, callback).fit(student, loader_of(batches))
    assert len(student.batches) == len(batches)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["extend", "replace"])
def test_kinds(tmp_path: Path, kind: str, mode: str) -> None:
    batch, input_key, target_key, input_of, labels_of = KINDS[kind]
    student = Student(input_of, labels_of)
    callback = make_callback(mode=mode, input_key=input_key, target_key=target_key)
    fit(tmp_path, student, callback, batch)
    assert type(student.batches[0]) is type(batch)
    if mode == "extend":
        assert_extended(student, 0, IMAGES, LABELS)
        return
    mix = student.mixes[0]
    assert mix is not None
    assert mix.teacher_logits is not None
    assert_mix_of(mix, IMAGES)
    assert torch.equal(student.images[0], mix.images)
    assert torch.equal(student.labels[0], mix.teacher_logits.argmax(dim=1))


def test_frozen_data_class_before_a_transfer_that_takes_it(tmp_path: Path) -> None:
    class Moving(Student):
        def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
            return batch

    student = Moving(attrgetter("image"), attrgetter("label"))
    batch = FrozenData(IMAGES, LABELS)
    fit(tmp_path, student, make_callback(input_key="image", target_key="label"), batch)
    assert_extended(student, 0, IMAGES, LABELS)
    assert torch.equal(batch.image, IMAGES)  # the user's own batch stays as it was


def test_the_loaders_own_batch_stays_as_it_was(tmp_path: Path) -> None:
    batch = {"x": IMAGES.clone(), "y": LABELS.clone(), "ids": IDS.clone()}
    fit(tmp_path, Student(itemgetter("x"), itemgetter("y")), make_callback(input_key="x", target_key="y"), batch)
    for name, expected in (("x", IMAGES), ("y", LABELS), ("ids", IDS)):
        assert torch.equal(batch[name], expected)


@pytest.mark.parametrize("mode", ["extend", "replace"])
def test_other_fields_of_samples_are_repeated(tmp_path: Path, mode: str) -> None:
    batch = {
        "x": IMAGES,
        "y": LABELS,
        "ids": IDS,
        "array": IDS.numpy(),
        "paths": PATHS,
        "boxes": [torch.full((i + 1, 4), i) for i in range(SIZE)],
        "more": (IDS, {"weight": IDS.float()}),
        "scale": torch.tensor(3.0),
        "mean": torch.zeros(7),
        "name": "four",
    }
    student = Student(itemgetter("x"), itemgetter("y"))
    fit(tmp_path, student, make_callback(mode=mode, input_key="x", target_key="y"), batch)
    seen, times = student.batches[0], 2 if mode == "extend" else 1
    assert list(seen) == list(batch)
    assert seen["ids"].tolist() == times * IDS.tolist()
    assert isinstance(seen["array"], np.ndarray)
    assert seen["array"].tolist() == times * IDS.tolist()
    assert seen["paths"] == times * PATHS
    assert [len(box) for box in seen["boxes"]] == times * [1, 2, 3, 4]
    assert isinstance(seen["more"], tuple)
    assert seen["more"][0].tolist() == times * IDS.tolist()
    assert seen["more"][1]["weight"].tolist() == times * IDS.tolist()
    assert seen["scale"].item() == 3.0
    assert seen["mean"].shape == (7,)
    assert seen["name"] == "four"


@pytest.mark.parametrize("mode", ["extend", "replace"])
@pytest.mark.parametrize("targets", ["teacher", "soft", "teacher_soft", "pairs"])
@pytest.mark.parametrize("k", [2, 3])
def test_label_formats(tmp_path: Path, mode: str, targets: str, k: int) -> None:
    student = Student()
    mixer = SuperMix(k=k, mask_size=4, max_steps=3)
    fit(tmp_path, student, make_callback(mixer=mixer, mode=mode, targets=targets), (IMAGES, LABELS, IDS))
    mix = student.mixes[0]
    assert mix is not None
    assert mix.teacher_logits is not None
    images, labels, ids = student.batches[0]
    assert len(images) == len(ids) == SIZE * (2 if mode == "extend" else 1)
    if targets == "pairs":
        mixed: Any = (mix.source_classes, mix.mix_weights)
        natural: Any = (LABELS[:, None].expand(-1, k), one_hot(torch.zeros(SIZE).long(), k).float())
        pairs = zip(natural, mixed, strict=True)
        expected = tuple(torch.cat(parts) for parts in pairs) if mode == "extend" else mixed
        assert isinstance(labels, tuple)
        assert all(torch.equal(*parts) for parts in zip(labels, expected, strict=True))
        return
    mixed = {
        "teacher": mix.teacher_logits.argmax(dim=1),
        "soft": mix.soft_targets,
        "teacher_soft": mix.teacher_logits.softmax(dim=1),
    }[targets]
    natural = LABELS if targets == "teacher" else one_hot(LABELS, NUM_CLASSES).float()
    expected = torch.cat([natural, mixed]) if mode == "extend" else mixed
    assert labels.dtype == expected.dtype
    assert torch.equal(labels, expected)


def test_soft_labels_follow_eq_2(tmp_path: Path) -> None:
    student = Student()
    fit(tmp_path, student, make_callback(mode="replace", targets="soft"), (IMAGES, LABELS))
    mix = student.mixes[0]
    assert mix is not None
    for row, sources, shares in zip(student.labels[0], mix.source_indices, mix.mix_weights, strict=True):
        expected = torch.zeros(NUM_CLASSES)
        for source, share in zip(sources, shares, strict=True):
            expected[LABELS[source]] += share  # the teacher knows these images, so its classes are the labels
        torch.testing.assert_close(row, expected)


def test_soft_natural_labels_pass_as_they_are(tmp_path: Path) -> None:
    student = Student()
    soft = torch.softmax(torch.randn(SIZE, NUM_CLASSES, generator=torch.Generator().manual_seed(0)), dim=1)
    fit(tmp_path, student, make_callback(targets="soft"), (IMAGES, soft))
    mix = student.mixes[0]
    assert mix is not None
    assert torch.equal(student.labels[0], torch.cat([soft, mix.soft_targets]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32])
def test_integer_labels_are_of_a_dtype_in_which_no_class_wraps(tmp_path: Path, dtype: torch.dtype) -> None:
    for mode in ("extend", "replace"):
        student = Student()
        fit(tmp_path, student, make_callback(mode=mode), (IMAGES, LABELS.to(dtype)))
        assert student.labels[0].dtype == (torch.int32 if dtype == torch.int32 else torch.int64)


@pytest.mark.parametrize("mixer", [MixUp(num_classes=NUM_CLASSES), CutMix(k=3, num_classes=NUM_CLASSES)])
@pytest.mark.parametrize("targets", ["soft", "pairs"])
def test_blind_mixers_without_a_teacher(tmp_path: Path, mixer: MixUp | CutMix, targets: Any) -> None:
    student = Student()
    fit(tmp_path, student, SuperMixCallback(None, mixer, targets=targets, engine="batch"), (IMAGES, LABELS))
    mix = student.mixes[0]
    assert mix is not None
    assert mix.teacher_logits is None
    assert mix.teacher_forwards == 0
    assert_mix_of(mix, IMAGES)
    assert torch.equal(student.images[0], torch.cat([IMAGES, mix.images]))
    labels = student.labels[0]
    if targets == "soft":
        assert torch.equal(labels, torch.cat([one_hot(LABELS, NUM_CLASSES).float(), mix.soft_targets]))
    else:
        assert torch.equal(labels[0][SIZE:], LABELS[mix.source_indices])
        assert torch.equal(labels[1][SIZE:], mix.mix_weights)


def test_blind_mixer_with_the_teachers_labels(tmp_path: Path) -> None:
    student = Student()
    fit(tmp_path, student, make_callback(mixer=MixUp()), (IMAGES, LABELS))
    assert_extended(student, 0, IMAGES, LABELS)


def test_memory_format_of_the_batch_is_kept(tmp_path: Path) -> None:
    student = Student()
    fit(tmp_path, student, make_callback(mode="replace"), (IMAGES.to(memory_format=torch.channels_last), LABELS))
    assert student.images[0].is_contiguous(memory_format=torch.channels_last)
    assert not student.images[0].is_contiguous()


@pytest.mark.parametrize("combined", [False, True])
def test_more_than_one_loader(tmp_path: Path, combined: bool) -> None:
    labelled, other = loader(8, 4), loader(12, 4)
    loaders: Any = {"labelled": labelled, "other": other}
    student = Student(lambda batch: batch["labelled"][0], lambda batch: batch["labelled"][1])
    callback = make_callback(input_key="labelled.0", target_key="labelled.1")
    make_trainer(tmp_path, callback).fit(student, CombinedLoader(loaders, "min_size") if combined else loaders)
    assert len(student.batches) == (2 if combined else 3)
    natural = list(labelled)
    for step in range(len(student.batches)):
        assert_extended(student, step, *natural[step % 2])
    for batch, (images, labels) in zip(student.batches, other, strict=False):
        assert torch.equal(batch["other"][0], images)  # a loader of its own: neither mixed nor repeated
        assert torch.equal(batch["other"][1], labels)


def test_a_loader_that_runs_out_before_the_others(tmp_path: Path) -> None:
    class Waiting(Student):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch["labelled"] is not None:
                return super().training_step(batch, batch_idx)
            self.keep(batch)
            return 0 * self.layer.weight.sum()

    loaders = CombinedLoader({"labelled": loader(8, 4), "other": loader(12, 4)}, "max_size")
    student = Waiting(lambda batch: batch["labelled"][0], lambda batch: batch["labelled"][1])
    callback = make_callback(input_key="labelled.0", target_key="labelled.1")
    make_trainer(tmp_path, callback).fit(student, loaders)
    assert [mix is None for mix in student.mixes] == [False, False, True]
    assert student.batches[2]["labelled"] is None
    assert len(student.batches[2]["other"][0]) == 4


def test_none_where_the_only_loader_should_have_images(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected a tensor behind input_key=0, got NoneType"):
        fit(tmp_path, Student(), make_callback(), (None, LABELS))


def test_list_of_loaders(tmp_path: Path) -> None:
    student = Student(lambda batch: batch[1][0], lambda batch: batch[1][1])
    callback = make_callback(input_key="1.0", target_key="1.1")
    make_trainer(tmp_path, callback).fit(student, [loader(4), loader(4)])
    assert_extended(student, 0, IMAGES, LABELS)
    assert len(student.batches[0][0][0]) == SIZE


@dataclasses.dataclass(frozen=True)
class HalfEngine(Engine):
    """An engine of the user's own: the mixes of the first half, twice."""

    def mix(self, mixer: Any, teacher: Any, images: Tensor, labels: Tensor | None, **options: Any) -> MixedBatch:
        half = len(images) // 2
        return mixer(teacher, images[:half].repeat(2, 1, 1, 1), None, **options)


def test_own_engine(tmp_path: Path) -> None:
    student = Student()
    fit(tmp_path, student, make_callback(mixer=MIXER, engine=HalfEngine(), mode="replace"), (IMAGES, LABELS))
    assert_mix_of(student.mixes[0], IMAGES[:2].repeat(2, 1, 1, 1))
