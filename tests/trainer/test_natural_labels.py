"""What natural rows are labelled with: given, by the teacher, or a blend; and batches that are not mixed at all."""

from typing import Any

import pytest
import torch
from torch import Tensor

from supermix_pl import FrozenTeacher, MixUp, SuperMix
from supermix_pl.engine import BatchEngine, StreamEngine
from supermix_pl.trainer.rewriting import num_classes_of
from tests.problems import NUM_CLASSES, BlindToMarked, Counting, FlatTeacher, mark, natural_images
from tests.rewriters import MIXER, rewriter, tensors_of

LABELS = torch.tensor([0, 5, 2, 2])
IMAGES = natural_images(4, (8, 8), dtype=torch.float32)
ONE_HOT = torch.eye(NUM_CLASSES)[LABELS]
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
FORMATS = ["teacher", "soft", "teacher_soft", "pairs"]


def teacher() -> FrozenTeacher:
    return FrozenTeacher(FlatTeacher())


def logits_of(pixels: Tensor) -> Tensor:
    return FlatTeacher()(pixels).detach()


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("mixer", [MIXER, SuperMix(mask_size=4, max_steps=3, classes="labels"), MixUp()])
@pytest.mark.parametrize("mode", ["extend", "replace"])
def test_logits_of_every_row_and_no_pass_for_nothing(mode: str, mixer: Any, streams: bool) -> None:
    counting = Counting(FlatTeacher())
    frozen = FrozenTeacher(counting, fold=False)
    frozen(IMAGES)
    engine = StreamEngine(reuse=4, default_transform=None) if streams else BatchEngine()
    writing = rewriter(mixer=mixer, engine=engine, mode=mode, label_natural=True)
    for number in range(3):
        counting.forwards = 0
        rewritten = writing.rewrite((IMAGES, LABELS), frozen, stream=(0, 0, number))
        assert rewritten.mix is not None
        assert rewritten.teacher_logits is not None
        torch.testing.assert_close(rewritten.teacher_logits, logits_of(rewritten.batch[0]), **CLOSE)
        looked = counting.forwards - rewritten.mix.teacher_forwards
        known = mode == "extend" and not streams and rewritten.mix.natural_logits is not None
        assert looked == (0 if mode == "replace" or known else 4)
    plain = rewriter(mixer=mixer, engine=engine, mode=mode).rewrite((IMAGES, LABELS), frozen, stream=(0, 0, 9))
    assert plain.teacher_logits is None


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_natural_labels_are_a_blend_of_given_and_taught(share: float, temperature: float) -> None:
    writing = rewriter(natural_share=share, target_temperature=temperature, targets="teacher_soft")
    expected = (1 - share) * ONE_HOT + share * (logits_of(IMAGES) / temperature).softmax(dim=1)
    rewritten = writing.rewrite((IMAGES, LABELS), teacher(), stream=(0,))
    assert rewritten.mix is not None
    labels = rewritten.batch[1]
    torch.testing.assert_close(labels[:4], expected, **CLOSE)
    torch.testing.assert_close(labels[4:], (logits_of(rewritten.mix.images) / temperature).softmax(dim=1), **CLOSE)
    left = writing.leave_natural((IMAGES, LABELS), teacher(), NUM_CLASSES)
    torch.testing.assert_close(left.batch[1], expected, **CLOSE)
    assert left.batch[0] is IMAGES
    assert (left.mix, left.teacher_logits) == (None, None)


def test_given_probabilities_are_blended_too() -> None:
    soft = torch.rand(4, NUM_CLASSES, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    writing = rewriter(targets="teacher_soft", natural_share=0.25)
    labels = writing.rewrite((IMAGES, soft), teacher(), stream=(0,)).batch[1]
    torch.testing.assert_close(labels[:4], 0.75 * soft + 0.25 * logits_of(IMAGES).softmax(dim=1), **CLOSE)


def test_natural_images_that_the_teacher_cannot_see_keep_their_labels() -> None:
    blind = FrozenTeacher(BlindToMarked(FlatTeacher()))
    writing = rewriter(targets="teacher_soft", natural_share=1.0)
    labels = writing.leave_natural((mark(IMAGES, 2), LABELS), blind, NUM_CLASSES).batch[1]
    assert labels[2].equal(ONE_HOT[2])
    assert not labels[1].equal(ONE_HOT[1])
    assert labels.isfinite().all()


# Batches that are not mixed


@pytest.mark.parametrize("target_format", FORMATS)
@pytest.mark.parametrize("mixer", [MIXER, MixUp(k=3), SuperMix(k=3, mask_size=4, max_steps=2)])
def test_batches_that_are_not_mixed_have_the_format_of_the_others(mixer: Any, target_format: str) -> None:
    writing = rewriter(mixer=mixer, targets=target_format)
    batch = (IMAGES, LABELS, ["a", "b", "c", "d"])
    mixed = writing.rewrite(batch, teacher(), stream=(0,)).batch[1]
    left = writing.leave_natural(batch, teacher(), NUM_CLASSES)
    assert left.batch[0] is IMAGES
    assert left.batch[2] == ["a", "b", "c", "d"]
    assert (left.mix, left.teacher_logits) == (None, None)
    assert batch[1] is LABELS
    for natural, both in zip(tensors_of(left.batch[1]), tensors_of(mixed), strict=True):
        assert natural.equal(both[:4])
        assert natural.dtype == both.dtype


@pytest.mark.parametrize("target_format", FORMATS)
def test_batches_that_are_not_mixed_have_the_teachers_logits_where_these_are_wanted(target_format: str) -> None:
    left = rewriter(targets=target_format, label_natural=True).leave_natural((IMAGES, LABELS), teacher(), None)
    assert left.teacher_logits is not None
    torch.testing.assert_close(left.teacher_logits, logits_of(IMAGES), **CLOSE)


def test_without_a_teacher_yet_the_labels_are_in_the_format_all_the_same() -> None:
    writing = rewriter(targets="teacher_soft", label_natural=True, natural_share=1.0)
    left = writing.leave_natural((IMAGES, LABELS), None, NUM_CLASSES)
    assert left.batch[1].equal(ONE_HOT)
    assert left.teacher_logits is None


def test_the_number_of_classes_is_the_teachers_or_the_mixers() -> None:
    assert num_classes_of(MixUp(num_classes=9), teacher(), IMAGES) == NUM_CLASSES
    assert num_classes_of(MixUp(num_classes=9), None, IMAGES) == 9
    assert num_classes_of(MixUp(), None, IMAGES) is None
    counting = Counting(FlatTeacher())
    frozen = FrozenTeacher(counting, fold=False)
    assert [num_classes_of(MIXER, frozen, IMAGES) for _ in range(3)] == [NUM_CLASSES] * 3
    assert counting.forwards == 1
