"""Fewer or more mixes than natural images."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from supermix_pl import BatchEngine, CutMix, FrozenTeacher, MixedBatch, MixUp, OneOf, StreamEngine, SuperMix
from supermix_pl.transforms import RandomCropFlip
from tests.integration.toys import MIXER, NUM_CLASSES, Student, Teacher, loader_of, make_callback, make_trainer
from tests.integration.toys import natural_data as data_of

SIZE = 8
EXPECTED = {0.1: 1, 0.25: 2, 0.75: 6, 1.5: 12, 2.0: 16, 2.3: 18}


def function(teacher: Any, images: Tensor, labels: Tensor | None = None, *, seed: Any) -> MixedBatch:
    return MixUp()(teacher, images, labels, seed=seed)


MIXERS: dict[str, Any] = {
    "exact": MIXER,
    "fast": SuperMix.fast(k=3, mask_size=4, max_steps=2),
    "mixup": MixUp(k=3),
    "cutmix": CutMix(),
    "one of": OneOf([MixUp(), CutMix()]),
    "function": function,
}
CELLS = [
    (engine, mixer) for engine in ("batch", "stream") for mixer in MIXERS if (engine, mixer) != ("stream", "function")
]


@pytest.mark.parametrize(
    "ratio", [0.25, 2.3, *(pytest.param(ratio, marks=pytest.mark.slow) for ratio in (0.1, 0.75, 1.5, 2.0))]
)
@pytest.mark.parametrize(("engine", "mixer"), CELLS)
def test_labels_and_logits_follow_the_rows(engine: str, mixer: str, ratio: float, tmp_path: Path) -> None:
    student, teacher = Student(), FrozenTeacher(Teacher(), fold=False)
    seen: list[Tensor] = []
    callback = make_callback(
        teacher, MIXERS[mixer], engine=engine, mix_ratio=ratio, targets="teacher_soft", label_natural=True
    )
    keep = student.keep

    def kept(batch: Any) -> None:
        keep(batch)
        assert callback.teacher_logits is not None
        seen.append(callback.teacher_logits)

    student.keep = kept
    batches = [[*data_of(SIZE, step), torch.arange(SIZE), [f"{row}" for row in range(SIZE)]] for step in range(3)]
    make_trainer(tmp_path, callback).fit(student, loader_of(batches))
    for step, (images, labels, ids, names) in enumerate(student.batches):
        mix = student.mixes[step]
        assert mix is not None
        assert len(mix) == EXPECTED[ratio]
        assert len(images) == len(labels) == len(ids) == len(names) == SIZE + len(mix)
        torch.testing.assert_close(images[:SIZE], batches[step][0])
        torch.testing.assert_close(images[SIZE:], mix.images)
        torch.testing.assert_close(seen[step], teacher(images), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(labels[SIZE:], seen[step][SIZE:].softmax(dim=1))
        assert names == [f"{row}" for row in ids.tolist()]
        if engine == "batch":
            assert ids[SIZE:].tolist() == mix.source_indices[:, 0].tolist()
            assert mix.mix_weights.shape == mix.source_indices.shape == (len(mix), mix.masks.shape[1])


@pytest.mark.parametrize("ratio", EXPECTED)
@pytest.mark.parametrize("mixer", ["exact", "fast", "mixup", "cutmix"])
def test_mixes_of_a_batch_are_of_the_sources_that_they_name(mixer: str, ratio: float) -> None:
    images, labels = data_of(SIZE)
    teacher = FrozenTeacher(Teacher(), fold=False)
    given: dict[str, Any] = {"seed": (0, 1), "num_mixes": EXPECTED[ratio]}
    mix = BatchEngine().mix(MIXERS[mixer], teacher, images, labels, **given)
    again = BatchEngine().mix(MIXERS[mixer], teacher, images, labels, **given)
    torch.testing.assert_close(mix.images, (mix.masks[:, :, None] * images[mix.source_indices]).sum(dim=1))
    assert torch.equal(mix.images, again.images)
    first = mix.source_indices[:, 0].tolist()
    assert max(first.count(row) for row in first) == -(-len(mix) // SIZE)
    same = MIXERS[mixer](teacher, images, labels, seed=(0, 1))
    if len(mix) >= SIZE:
        assert torch.equal(mix.images[:SIZE], same.images)
        assert mix.teacher_forwards >= same.teacher_forwards * len(mix) / SIZE * 0.5


def test_sets_of_fewer_sources_beside_larger_ones() -> None:
    """The teacher is blind for six of eight images, so that a part of the batch has fewer than k others."""

    class Blind(Teacher):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            return torch.where((images[:, :1, 0, 0] > 5), torch.nan, logits)

    images, _ = data_of(6)
    images[3:, :, 0, 0] = 9.0
    teacher = FrozenTeacher(Blind(), fold=False)
    with pytest.warns(UserWarning, match="smaller than k=3"):
        mixes = [
            BatchEngine().mix(MixUp(k=3, pairing="random"), teacher, images, None, seed=seed, num_mixes=9)
            for seed in range(12)
        ]
    for mix in mixes:
        assert mix.mix_weights.shape == mix.source_classes.shape == (9, 3)
        torch.testing.assert_close(mix.mix_weights.sum(dim=1), torch.ones(9))
        torch.testing.assert_close(mix.images, (mix.masks[:, :, None] * images[mix.source_indices]).sum(dim=1))


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_stream_shows_each_set_as_often_as_asked(ratio: float) -> None:
    engine, teacher = StreamEngine(reuse=4), FrozenTeacher(Teacher(), fold=False)
    mixer = SuperMix.fast(mask_size=4, max_steps=4)
    for step in range(60):
        images, labels = data_of(SIZE, step)
        mix = engine.mix(
            mixer, teacher, images, labels, seed=(0, step), view=RandomCropFlip(), num_mixes=int(ratio * SIZE)
        )
        assert len(mix) == ratio * SIZE
    assert engine.metrics()["uses"] == pytest.approx(4, rel=0.3)


@pytest.mark.parametrize("targets", ["teacher", "soft", "pairs"])
def test_every_format_of_labels_and_odd_batches(targets: Any, tmp_path: Path) -> None:
    student = Student()
    callback = make_callback(mix_ratio=0.5, targets=targets, engine="stream")
    make_trainer(tmp_path, callback).fit(student, loader_of([data_of(size, size) for size in (4, 5, 1)]))
    rows = [len(labels[0] if targets == "pairs" else labels) for labels in student.labels]
    assert rows == [len(images) for images in student.images] == [6, 8, 2]


def test_mixes_before_the_teacher_supervises(tmp_path: Path) -> None:
    student = Student(num_classes=NUM_CLASSES)
    callback = make_callback(mix_ratio=1.5, targets="soft", start_epoch=1, before_start="mixup")
    make_trainer(tmp_path, callback, max_epochs=2).fit(student, loader_of([data_of(4)]))
    assert [len(images) for images in student.images] == [10, 10]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix_ratio": 0.0}, "expected mix_ratio > 0, got 0.0"),
        ({"mix_ratio": float("inf")}, "expected mix_ratio > 0, got inf"),
        (
            {"mix_ratio": 0.5, "mode": "replace"},
            'expected mix_ratio=1 with mode="replace", .*got 0.5; choose mode="ext',
        ),
    ],
)
def test_ratios_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_callback(**options)


def test_the_ratio_is_named_and_shown() -> None:
    assert "mix_ratio=0.5" in repr(make_callback(mix_ratio=0.5))
    assert "mix_ratio" not in repr(make_callback())
