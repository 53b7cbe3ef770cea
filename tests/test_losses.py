"""Losses against plain formulas."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from supermix_pl.losses import (
    dist_loss,
    distillation_loss,
    dkd_loss,
    similarity_loss,
    soft_cross_entropy,
    soft_distillation_loss,
)


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


TEACHER = 2 * random(4, 5, seed=3)
MATCHING: list[Callable[..., Tensor]] = [
    distillation_loss,
    dist_loss,
    lambda student, teacher, **options: dkd_loss(student, teacher, HARD, **options),
    lambda student, teacher, **options: soft_distillation_loss(student, teacher.softmax(dim=1), **options),
]


@pytest.mark.parametrize("loss", MATCHING)
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_bad_temperature(loss: Callable[..., Tensor], temperature: float) -> None:
    with pytest.raises(ValueError, match=f"expected temperature > 0, got {temperature}"):
        loss(LOGITS, LOGITS, temperature=temperature)


@pytest.mark.parametrize("loss", MATCHING)
def test_only_the_student_learns_and_from_extreme_logits_too(loss: Callable[..., Tensor]) -> None:
    extreme = torch.tensor([[300.0, -300.0, 0, 0, 0], [0, 0, 0, 0, 0], [-300, 90, 90, 1, 2], [1, 2, 3, 4, -300]])
    for student, teacher in ((extreme, TEACHER.float()), (LOGITS.float(), extreme), (extreme, extreme.flip(1))):
        student, teacher = student.clone().requires_grad_(), teacher.clone().requires_grad_()
        loss(student, teacher).backward()
        assert student.grad is not None
        assert student.grad.isfinite().all()
        assert teacher.grad is None


@pytest.mark.parametrize("loss", MATCHING)
def test_gradients_are_those_of_differences(loss: Callable[..., Tensor]) -> None:
    torch.autograd.gradcheck(lambda student: loss(student, TEACHER), LOGITS.clone().requires_grad_())


def test_soft_targets_are_the_teachers_softened_probabilities() -> None:
    gradients = []
    for loss in (
        lambda student: distillation_loss(student, TEACHER, temperature=3.0),
        lambda student: soft_distillation_loss(student, (TEACHER / 3).softmax(dim=1), temperature=3.0),
    ):
        student = LOGITS.clone().requires_grad_()
        loss(student).backward()
        gradients += [loss(student).detach(), student.grad]
    torch.testing.assert_close(gradients[2:], gradients[:2])
    hard = soft_distillation_loss(LOGITS, torch.eye(5).double()[HARD], temperature=1.0)
    assert hard.item() == pytest.approx(soft_cross_entropy(LOGITS, HARD).item())


def plain_softmax(row: Sequence[float], temperature: float) -> list[float]:
    weights = [math.exp(value / temperature) for value in row]
    return [weight / sum(weights) for weight in weights]


def plain_kl(p: Sequence[float], q: Sequence[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)


def plain_dkd(student: Tensor, teacher: Tensor, temperature: float, alpha: float, beta: float) -> float:
    total = 0.0
    for ours, theirs, target in zip(student.tolist(), teacher.tolist(), HARD.tolist(), strict=True):
        p, q = plain_softmax(theirs, temperature), plain_softmax(ours, temperature)
        total += alpha * plain_kl((p[target], 1 - p[target]), (q[target], 1 - q[target]))
        theirs.pop(target)
        ours.pop(target)
        total += beta * plain_kl(plain_softmax(theirs, temperature), plain_softmax(ours, temperature))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize(("temperature", "alpha", "beta"), [(4.0, 1.0, 8.0), (1.0, 2.0, 0.0), (0.7, 0.0, 3.0)])
def test_dkd_loss(temperature: float, alpha: float, beta: float) -> None:
    loss = dkd_loss(LOGITS, TEACHER, HARD, temperature=temperature, alpha=alpha, beta=beta)
    assert loss.item() == pytest.approx(plain_dkd(LOGITS, TEACHER, temperature, alpha, beta))
    assert dkd_loss(TEACHER, TEACHER, HARD.int()).item() == pytest.approx(0.0, abs=1e-12)
    assert dkd_loss(LOGITS, TEACHER, HARD).item() == pytest.approx(plain_dkd(LOGITS, TEACHER, 4.0, 1.0, 8.0))


def test_dkd_is_kd_where_the_others_weigh_what_the_teacher_gives_them() -> None:
    """Eq. 5 of the paper: KD = TCKD + (1 - p_t) NCKD."""
    for row in range(4):
        one = slice(row, row + 1)
        others = 1 - TEACHER[one].softmax(dim=1)[0, HARD[row]].item()
        loss = dkd_loss(LOGITS[one], TEACHER[one], HARD[one], temperature=1.0, beta=others)
        torch.testing.assert_close(loss, distillation_loss(LOGITS[one], TEACHER[one], temperature=1.0))


def test_dkd_of_two_classes_has_no_other_classes_to_compare() -> None:
    two = dkd_loss(LOGITS[:, :2], TEACHER[:, :2], HARD.clamp(max=1), beta=8.0)
    torch.testing.assert_close(two, distillation_loss(LOGITS[:, :2], TEACHER[:, :2]))


def plain_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    a, b = ([value - sum(values) / len(values) for value in values] for values in (a, b))
    norm = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norm


@pytest.mark.parametrize(("temperature", "beta", "gamma"), [(4.0, 1.0, 1.0), (1.0, 2.0, 0.5), (0.7, 0.0, 1.0)])
def test_dist_loss(temperature: float, beta: float, gamma: float) -> None:
    ours, theirs = ([plain_softmax(row, temperature) for row in logits.tolist()] for logits in (LOGITS, TEACHER))
    pairs = list(zip(ours, theirs, strict=True)), list(zip(zip(*ours), zip(*theirs), strict=True))  # noqa: B905
    inter, intra = (sum(1 - plain_correlation(*pair) for pair in each) / len(each) for each in pairs)
    loss = dist_loss(LOGITS, TEACHER, temperature=temperature, beta=beta, gamma=gamma)
    assert loss.item() == pytest.approx(beta * inter + gamma * intra)
    assert dist_loss(TEACHER, TEACHER).item() == pytest.approx(0.0, abs=1e-12)


def test_dist_of_what_has_no_correlation() -> None:
    """One image has none with others, equal logits none between classes: it counts as 0, without a gradient."""
    one = LOGITS[:1].float().requires_grad_()
    alone = dist_loss(one, TEACHER[:1].float(), beta=0.0)
    alone.backward()
    assert alone.item() == 1.0
    assert one.grad is not None
    assert not one.grad.any()
    assert dist_loss(torch.full((4, 5), 0.1), TEACHER.float()).item() == pytest.approx(2.0)
    assert dist_loss(LOGITS[:1], LOGITS[:1], gamma=0.0).item() == pytest.approx(0.0, abs=1e-12)


def test_dist_of_unlikely_classes_does_not_underflow() -> None:
    unlikely = torch.tensor([[0.0, -200.0], [0.0, -201.0], [0.0, -203.0]])
    torch.testing.assert_close(dist_loss(unlikely, unlikely, temperature=1.0, beta=0.0).item(), 0.5, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dkd_loss(LOGITS, TEACHER, SOFT), r"expected classes as \(4,\) integers, got torch.float64 of shape"),
        (lambda: dkd_loss(LOGITS, TEACHER, HARD, alpha=-1.0), "expected alpha >= 0, got -1.0"),
        (lambda: dkd_loss(LOGITS, TEACHER, HARD, beta=-1.0), "expected beta >= 0, got -1.0"),
        (lambda: dkd_loss(LOGITS[:, :1], TEACHER[:, :1], HARD), "expected logits of at least 2 classes, got 1"),
        (lambda: dist_loss(LOGITS, TEACHER, beta=-1.0), "expected beta >= 0, got -1.0"),
        (lambda: dist_loss(LOGITS, TEACHER, gamma=-1.0), "expected gamma >= 0, got -1.0"),
        (
            lambda: soft_distillation_loss(LOGITS, HARD),
            r"expected soft targets as \(4, 5\) probabilities, got torch.int64",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_arguments_that_do_not_fit(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_distillation_is_no_coarser_than_float32() -> None:
    """Under autocast on a CPU the logits and the operations would be in bfloat16."""
    student = (2 * torch.randn(16, 10, generator=torch.Generator().manual_seed(0))).bfloat16()
    teacher = student.float() + 0.01 * torch.arange(10.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = distillation_loss(student, teacher)
    torch.testing.assert_close(loss, distillation_loss(student.double(), teacher.double()).float())


@pytest.mark.usefixtures("unchecked")
def test_similarities_are_compared_as_the_paper_has_it() -> None:
    student, teacher = random(4, 2, 3, 3).requires_grad_(), random(4, 7, seed=1).requires_grad_()
    rows: list[list[list[float]]] = []
    for features in (student.detach(), teacher.detach()):
        products = [[float((one * other).sum()) for other in features] for one in features]
        rows.append([[value / math.hypot(*row) for value in row] for row in products])
    expected = sum((a - b) ** 2 for pair in zip(*rows, strict=True) for a, b in zip(*pair, strict=True)) / 16
    loss = similarity_loss(student, teacher)
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert similarity_loss(student.float(), teacher.float()).item() == pytest.approx(expected, rel=1e-5)
    assert similarity_loss(torch.zeros(2, 3), torch.zeros(2, 5)).item() == 0  # no image has any features
    with pytest.raises(ValueError, match="features of the same images, got 3 of the student and 4 of the teacher"):
        similarity_loss(student[:3], teacher)
