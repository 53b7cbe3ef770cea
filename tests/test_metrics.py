"""Accuracy for every label format."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from supermix_pl.metrics import accuracy, hard_targets, teacher_agreement, teacher_divergence

HARD = torch.tensor([0, 3, 2, 2])
SOFT = torch.tensor([[0.6, 0.4, 0, 0], [0, 0.1, 0.2, 0.7], [0.3, 0.3, 0.4, 0], [0.25, 0.2, 0.35, 0.2]])
CLASSES = torch.tensor([[0, 1, 2], [1, 3, 0], [1, 2, 2], [2, 2, 2]])
WEIGHTS = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7]])
FORMATS: list[Any] = [HARD, SOFT, (CLASSES, WEIGHTS), [CLASSES, WEIGHTS], HARD.int(), SOFT.bfloat16()]


@pytest.mark.parametrize("targets", FORMATS)
@pytest.mark.usefixtures("unchecked")
def test_class_of_largest_weight(targets: Any) -> None:
    assert hard_targets(targets).tolist() == HARD.tolist()


@pytest.mark.parametrize("targets", FORMATS)
@pytest.mark.parametrize(
    ("predicted", "share"), [([0, 3, 2, 2], 1.0), ([0, 3, 1, 2], 0.75), ([0, 1, 1, 1], 0.25), ([1, 1, 1, 1], 0.0)]
)
@pytest.mark.usefixtures("unchecked")
def test_share_of_hits(targets: Any, predicted: list[int], share: float) -> None:
    logits = torch.eye(4)[predicted] * 3 - 1
    assert accuracy(logits, targets).item() == share


def test_weights_of_a_class_that_occurs_twice_add_up() -> None:
    classes, weights = torch.tensor([[1, 2, 2]]), torch.tensor([[0.4, 0.3, 0.3]])
    assert hard_targets((classes, weights)).tolist() == [2]
    assert accuracy(torch.tensor([[0.0, 0.0, 1.0]]), (classes, weights)).item() == 1.0


@pytest.mark.parametrize(
    ("targets", "came"),
    [
        (HARD[:, None], r"got torch.int64 of shape \(4, 1\)"),
        (SOFT[:, 0], r"got torch.float32 of shape \(4,\)"),
        (SOFT[None], r"got torch.float32 of shape \(1, 4, 4\)"),
    ],
)
def test_targets_of_no_format(targets: Tensor, came: str) -> None:
    with pytest.raises(
        ValueError, match=r"expected targets as \(b,\) integers, \(b, n\) probabilities or a pair .*" + came
    ):
        hard_targets(targets)


def test_how_closely_a_student_follows_its_teacher() -> None:
    student, teacher = SOFT.clone().roll(1, dims=0).log(), (SOFT + 0.1).log()
    assert teacher_agreement(student, teacher).item() == 0.25
    assert teacher_agreement(teacher, 7 * teacher).item() == 1.0
    student = student.nan_to_num(neginf=-3.0).bfloat16()
    total = 0.0
    for ours, theirs in zip(student.double().softmax(1).tolist(), teacher.double().softmax(1).tolist(), strict=True):
        total += sum(p * math.log(p / q) for p, q in zip(theirs, ours, strict=True)) / len(student)
    assert teacher_divergence(student, teacher).item() == pytest.approx(total, rel=1e-5)
    assert teacher_divergence(teacher, teacher + 5).item() == pytest.approx(0.0, abs=1e-6)
