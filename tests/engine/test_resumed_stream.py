"""Streams that go on with other images, classes or batches than they were saved with: planned anew, no raw error."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from supermix_pl import MixUp
from supermix_pl.engine import StreamEngine
from tests.engine.streams import FAST, SIZE, VIEWED, batch_of, run, teacher_of
from tests.problems import NUM_CLASSES, FlatTeacher

pytestmark = pytest.mark.usefixtures("unchecked")  # many steps
SAVED_AT = 12
ANEW = "so its store fills anew"


class Small(nn.Module):
    """Takes images of any size and gives the first logits of another teacher."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body, self.num_classes = FlatTeacher(), num_classes

    def forward(self, images: Tensor) -> Tensor:
        return self.body(interpolate(images, (8, 8)))[:, : self.num_classes]


def larger(step: int, size: int) -> tuple[Tensor, Tensor]:
    images, labels = batch_of(step, size)
    return interpolate(images, (12, 10)), labels


def few_classes(step: int, size: int) -> tuple[Tensor, Tensor]:
    images, labels = batch_of(step, size)
    return images, labels % 2


def resumed(mixer: Any, engine: StreamEngine | None = None) -> StreamEngine:
    first, second = StreamEngine(reuse=4), engine or StreamEngine(reuse=4)
    run(first, SAVED_AT, mixer, teacher_of(Small(NUM_CLASSES)))
    second.check(mixer)
    second.load_state_dict(first.state_dict())
    second.load_tensors({name: value.clone() for name, value in first.tensors().items()})
    return second


@pytest.mark.parametrize("mixer", [VIEWED, FAST, MixUp()], ids=["viewed", "fast", "mixup"])
@pytest.mark.parametrize(
    ("num_classes", "batch"), [(NUM_CLASSES, larger), (2, few_classes)], ids=["image size", "classes"]
)
def test_other_images_and_classes(mixer: Any, num_classes: int, batch: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        engine = resumed(mixer)
        ran = run(engine, range(SAVED_AT, 40), mixer, teacher_of(Small(num_classes)), batch=batch)
    assert ANEW in caplog.text
    for mix in ran.mixes:
        assert mix.images.shape[2:] == batch(0, 1)[0].shape[2:]
        assert mix.soft_targets.shape[1] == num_classes
    assert engine.steps == 40


def test_the_same_images_and_classes_go_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        engine = resumed(VIEWED)
        run(engine, [SAVED_AT], teacher=teacher_of(Small(NUM_CLASSES)))
    assert ANEW not in caplog.text
    assert engine._state.images is not None
    assert engine._state.images.ring.added > SAVED_AT * SIZE / 4


@pytest.mark.parametrize("size", [6, pytest.param(48, marks=pytest.mark.slow)])
def test_another_batch_size_is_planned_anew(size: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        engine = resumed(VIEWED)
        ran = run(engine, range(SAVED_AT, 300), teacher=teacher_of(Small(NUM_CLASSES)), sizes=[size] * 300)
    assert f"batches have {size} mixes, {SIZE} in the checkpoint" in caplog.text
    fresh = StreamEngine(reuse=4)
    run(fresh, 1, sizes=[size])
    assert engine.plan == fresh.plan
    assert ran.metrics[-1]["uses"] == pytest.approx(4, rel=0.1)


def test_a_small_batch_at_the_end_of_an_epoch_changes_no_plan() -> None:
    engine = resumed(VIEWED)
    plan_before = StreamEngine(reuse=4)
    run(plan_before, 1)
    run(engine, range(SAVED_AT, SAVED_AT + 4), teacher=teacher_of(Small(NUM_CLASSES)), sizes=[7, SIZE, SIZE, 7])
    assert engine.plan == plan_before.plan


def test_what_was_loaded_is_saved_again_before_the_first_batch() -> None:
    engine = resumed(VIEWED)
    assert engine.tensors()
    again = StreamEngine(reuse=4)
    again.load_tensors({})
    run(again, 1)


@pytest.mark.parametrize("sizes", [20 * [3], 5 * [4, 1, 3, 2]], ids=["smaller", "odd"])
def test_a_rank_whose_batches_are_of_other_sizes_goes_on_with_its_own_accounts(sizes: list[int]) -> None:
    whole, rank, first_rank, resumed = (StreamEngine(reuse=5) for _ in range(4))
    expected = run(whole, range(20), teacher=teacher_of(), sizes=sizes).mixes[SAVED_AT:]
    run(rank, SAVED_AT, teacher=teacher_of(), sizes=sizes)
    run(first_rank, SAVED_AT, teacher=teacher_of(), sizes=20 * [4])
    resumed.load_state_dict(first_rank.state_dict())  # a checkpoint has that of rank 0 alone
    resumed.load_tensors({name: value.clone() for name, value in rank.tensors().items()})
    mixes = run(resumed, range(SAVED_AT, 20), teacher=teacher_of(), sizes=sizes).mixes
    for mix, other in zip(mixes, expected, strict=True):
        torch.testing.assert_close(mix.images, other.images, rtol=0, atol=0)


@pytest.mark.parametrize("mixer", [VIEWED, MixUp()], ids=["viewed", "mixup"])
def test_a_loop_without_lightning_goes_on_although_the_mixer_comes_with_the_first_batch(mixer: Any) -> None:
    whole, first, second = (StreamEngine(reuse=4) for _ in range(3))
    expected = run(whole, range(20), mixer, teacher_of()).mixes[SAVED_AT:]
    run(first, SAVED_AT, mixer, teacher_of())
    second.load_state_dict(first.state_dict())
    second.load_tensors({name: value.clone() for name, value in first.tensors().items()})
    assert second.state_dict() == first.state_dict()
    for mix, other in zip(run(second, range(SAVED_AT, 20), mixer, teacher_of()).mixes, expected, strict=True):
        torch.testing.assert_close(mix.images, other.images, rtol=0, atol=0)


def test_such_a_loop_begins_anew_with_another_mixer(caplog: pytest.LogCaptureFixture) -> None:
    first, second = StreamEngine(reuse=4), StreamEngine(reuse=4)
    run(first, SAVED_AT, VIEWED, teacher_of())
    second.load_state_dict(first.state_dict())
    second.load_tensors(first.tensors())
    with caplog.at_level("INFO"):
        run(second, range(SAVED_AT, SAVED_AT + 1), FAST, teacher_of())
    assert "its settings or the mixer's are others than in the checkpoint" in caplog.text
    assert second.steps == SAVED_AT + 1
