"""Losses against plain formulas."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from supermix_pl.losses import distillation_loss, soft_cross_entropy


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LOGITS = 3 * random(4, 5)
HARD = torch.tensor([0, 4, 2, 2])
SOFT = random(4, 5, seed=1).softmax(dim=1)
CLASSES, WEIGHTS = torch.tensor([[0, 1], [2, 2], [4, 0], [3, 1]]), random(4, 2, seed=2).softmax(dim=1)


def plain_cross_entropy(logits: Tensor, probabilities: Tensor) -> float:
    total = 0.0
    for row, target in zip(logits.tolist(), probabilities.tolist(), strict=True):
        normaliser = math.log(sum(math.exp(value) for value in row))
        total -= sum(share * (value - normaliser) for share, value in zip(target, row, strict=True))
    return total / len(logits)


def of_pairs() -> Tensor:
    return torch.zeros(4, 5, dtype=torch.float64).scatter_add(1, CLASSES, WEIGHTS)


@pytest.mark.parametrize(
    ("targets", "probabilities"),
    [
        (HARD, torch.eye(5)[HARD]),
        (HARD.int(), torch.eye(5)[HARD]),
        (HARD.to(torch.uint8), torch.eye(5)[HARD]),
        (SOFT, SOFT),
        (SOFT.float(), SOFT),
        ((CLASSES, WEIGHTS), of_pairs()),
        ([CLASSES, WEIGHTS], of_pairs()),
        ((CLASSES[:, :1], WEIGHTS[:, :1]), torch.eye(5)[CLASSES[:, 0]] * WEIGHTS[:, :1]),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_soft_cross_entropy_of_every_format(targets: Any, probabilities: Tensor) -> None:
    expected = plain_cross_entropy(LOGITS, probabilities.double())
    assert soft_cross_entropy(LOGITS, targets).item() == pytest.approx(expected, rel=1e-6)


def test_gradient_of_every_format_is_the_same() -> None:
    gradients = []
    for targets in ((HARD[:, None], torch.ones(4, 1).double()), HARD, torch.eye(5).double()[HARD]):
        logits = LOGITS.clone().requires_grad_()
        gradients += torch.autograd.grad(soft_cross_entropy(logits, targets), logits)
    torch.testing.assert_close(gradients[0], (LOGITS.softmax(dim=1) - torch.eye(5).double()[HARD]) / 4)
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(gradients[2], gradients[0])


@pytest.mark.parametrize(
    ("targets", "came"),
    [
        (SOFT[:, :3], r"got torch.float64 of shape \(4, 3\)"),
        (SOFT[:, 0], r"got torch.float64 of shape \(4,\)"),
        (HARD[:, None], r"got torch.int64 of shape \(4, 1\)"),
    ],
)
def test_targets_of_no_format(targets: Tensor, came: str) -> None:
    with pytest.raises(
        ValueError, match=r"expected targets as \(b,\) integers, \(4, 5\) probabilities or a pair .*" + came
    ):
        soft_cross_entropy(LOGITS, targets)


def plain_distillation(student: Tensor, teacher: Tensor, temperature: float) -> float:
    total = 0.0
    for ours, theirs in zip((student / temperature).softmax(1), (teacher / temperature).softmax(1), strict=True):
        total += sum(p * math.log(p / q) for p, q in zip(theirs.tolist(), ours.tolist(), strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_loss(temperature: float) -> None:
    teacher = 2 * random(4, 5, seed=3)
    loss = distillation_loss(LOGITS, teacher, temperature=temperature)
    assert loss.item() == pytest.approx(plain_distillation(LOGITS, teacher, temperature))
    assert distillation_loss(teacher, teacher, temperature=temperature).item() == pytest.approx(0.0, abs=1e-12)


def test_default_temperature_is_4() -> None:
    teacher = random(4, 5, seed=3)
    assert distillation_loss(LOGITS, teacher).item() == pytest.approx(plain_distillation(LOGITS, teacher, 4.0))


def test_no_gradient_flows_to_the_teacher() -> None:
    student, teacher = LOGITS.clone().requires_grad_(), random(4, 5, seed=3).requires_grad_()
    distillation_loss(student, teacher, temperature=2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None
    expected = 2 * ((LOGITS / 2).softmax(dim=1) - (teacher.detach() / 2).softmax(dim=1)) / 4
    torch.testing.assert_close(student.grad, expected)


def test_the_temperature_may_be_learned() -> None:
    temperature = torch.tensor(4.0, requires_grad=True)
    expected = distillation_loss(LOGITS, LOGITS.flip(0), temperature=4.0)
    torch.testing.assert_close(distillation_loss(LOGITS, LOGITS.flip(0), temperature=temperature), expected)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_bad_temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"expected temperature > 0, got {temperature}"):
        distillation_loss(LOGITS, LOGITS, temperature=temperature)


def test_distillation_is_no_coarser_than_float32() -> None:
    """Under autocast on a CPU the logits and the operations would be in bfloat16."""
    student = (2 * torch.randn(16, 10, generator=torch.Generator().manual_seed(0))).bfloat16()
    teacher = student.float() + 0.01 * torch.arange(10.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = distillation_loss(student, teacher)
    torch.testing.assert_close(loss, distillation_loss(student.double(), teacher.double()).float())
