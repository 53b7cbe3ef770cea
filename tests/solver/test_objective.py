"""What the masks minimise: KL, sparsity, total variation, and their sums."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from supermix_pl.solver.criterion import class_membership, margin
from supermix_pl.solver.masks import normalized_masks
from supermix_pl.solver.objective import (
    Objective,
    criterion_objective,
    divergence,
    margin_objective,
    paper_objective,
    smooth_margin,
    sparsity,
    total_variation,
)
from tests import oracle


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_masks(*shape: int, seed: int = 0) -> Tensor:
    return random(*shape, seed=seed).softmax(dim=1)


def loss(objective: Objective, logits: Tensor, targets: Tensor, membership: Tensor, masks: Tensor) -> Tensor:
    return objective.of_logits(logits, targets, membership) + objective.of_masks(masks)


def soft_targets() -> Tensor:
    return torch.tensor([[0.7, 0.0, 0.3, 0.0], [0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)


def test_divergence_is_kl_of_target_to_prediction() -> None:
    logits, targets = 3 * random(3, 4), soft_targets()
    expected = F.kl_div(logits.log_softmax(dim=1), targets, reduction="none").sum(dim=1)
    torch.testing.assert_close(divergence(logits, targets), expected)
    torch.testing.assert_close(
        divergence(targets.clamp_min(1e-300).log(), targets), torch.zeros(3).double(), atol=1e-12, rtol=0
    )


def test_gradient_of_divergence_is_prediction_minus_target() -> None:
    logits, targets = (3 * random(3, 4)).requires_grad_(), soft_targets()
    (gradient,) = torch.autograd.grad(divergence(logits, targets).sum(), logits)
    torch.testing.assert_close(gradient, logits.softmax(dim=1).detach() - targets)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_sparsity_of_equal_and_of_binary_masks(k: int) -> None:
    equal = torch.full((1, k, 4, 4), 1 / k, dtype=torch.float64)
    torch.testing.assert_close(sparsity(equal).item(), (k - 1) / k**2)
    binary = F.one_hot(torch.arange(16).view(1, 4, 4) % k, k).permute(0, 3, 1, 2).double()
    assert sparsity(binary).item() == 0.0


@pytest.mark.parametrize("shape", [(3, 2, 6, 5), (2, 3, 1, 4), (2, 1, 4, 1), (1, 2, 1, 1)])
def test_total_variation_and_its_gradient_equal_the_oracle(shape: tuple[int, int, int, int]) -> None:
    masks = random_masks(*shape).requires_grad_()
    values = total_variation(masks)
    (gradient,) = torch.autograd.grad(values.sum(), masks)
    for row in range(shape[0]):
        value, derivative = oracle.total_variation(masks[row].detach().numpy())
        torch.testing.assert_close(values[row].item(), float(value))
        torch.testing.assert_close(gradient[row], torch.from_numpy(derivative))


def test_total_variation_of_a_step_edge() -> None:
    masks = torch.zeros(1, 2, 4, 6, dtype=torch.float64)
    masks[:, 0, :, :3], masks[:, 1, :, 3:] = 1.0, 1.0
    torch.testing.assert_close(total_variation(masks).item(), 2 * 4 / masks.numel())
    corner = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    corner[..., 0, 0] = 1.0
    torch.testing.assert_close(total_variation(corner).item(), 2 ** (1 / 3) / 4)


def test_total_variation_has_no_gradient_where_masks_are_flat() -> None:
    masks = torch.full((2, 2, 5, 5), 0.5, requires_grad=True)
    values = total_variation(masks)
    assert values.tolist() == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(values.sum(), masks)
    assert torch.equal(gradient, torch.zeros_like(masks))


@pytest.mark.parametrize("height", [1e-12, 1e-20, 1e-30])
def test_total_variation_of_small_differences_does_not_underflow(height: float) -> None:
    masks = torch.zeros(1, 1, 1, 4)
    masks[..., 2:] = height
    masks.requires_grad_()
    value = total_variation(masks)
    torch.testing.assert_close(value.item(), height / 4, rtol=1e-5, atol=0.0)
    (gradient,) = torch.autograd.grad(value.sum(), masks)
    torch.testing.assert_close(gradient.flatten(), torch.tensor([0.0, -0.25, 0.25, 0.0]))


@pytest.mark.parametrize("height", [1e-35, 1e-38, 1e-40, 1e-45])
def test_total_variation_of_differences_beyond_the_precision_counts_as_flat(height: float) -> None:
    masks = torch.zeros(1, 1, 1, 4)
    masks[..., 2:] = height
    masks.requires_grad_()
    value = total_variation(masks)
    (gradient,) = torch.autograd.grad(value.sum(), masks)
    assert value.item() == 0.0
    assert torch.equal(gradient, torch.zeros_like(masks))


@pytest.mark.parametrize("logit", [30.0, 100.0, 1e4])
def test_gradient_of_saturated_masks_is_finite(logit: float) -> None:
    mask_logits = logit * random(1, 2, 4, 4, seed=3).float()
    mask_logits.requires_grad_()
    roughness = total_variation(normalized_masks(mask_logits, (12, 12)))
    (gradient,) = torch.autograd.grad(roughness.sum(), mask_logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("roughness_weight", [0.0, 250.0])
def test_paper_objective_is_a_weighted_sum(roughness_weight: float) -> None:
    logits, targets, masks = random(3, 4), soft_targets(), random_masks(3, 2, 6, 5)
    membership = targets > 0
    objective = loss(paper_objective(25.0, roughness_weight), logits, targets, membership, masks)
    for row in range(3):
        expected = (
            oracle.divergence(logits[row].numpy(), targets[row].numpy())[0]
            + 25 * oracle.sparsity(masks[row].numpy())[0]
            + roughness_weight * oracle.total_variation(masks[row].numpy())[0]
        )
        torch.testing.assert_close(objective[row].item(), float(expected))


@pytest.mark.parametrize("roughness_weight", [0.0, 10.0])
def test_margin_objective_is_softplus_of_the_missing_margin_and_a_fifth_of_the_papers(roughness_weight: float) -> None:
    logits, targets, masks = 4 * random(3, 4), soft_targets(), random_masks(3, 2, 6, 5)
    membership = class_membership(torch.tensor([[0, 2], [1, 1], [3, 0]]), 4)
    objective = loss(margin_objective(25.0, roughness_weight), logits, targets, membership, masks)
    paper = loss(paper_objective(25.0, roughness_weight), logits, targets, membership, masks)
    for row, classes in enumerate([(0, 2), (1,), (3, 0)]):
        lowest, highest = oracle.lowest_and_highest(logits[row].numpy(), classes)
        expected = math.log1p(math.exp(highest - lowest)) + 0.2 * paper[row].item()
        torch.testing.assert_close(objective[row].item(), expected)


def test_margin_objective_without_a_class_outside_is_finite_with_its_gradient() -> None:
    logits, masks = random(1, 3).requires_grad_(), random_masks(1, 3, 4, 4)
    targets, everyone = torch.full((1, 3), 1 / 3, dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool)
    value = loss(margin_objective(25.0), logits, targets, everyone, masks)
    torch.testing.assert_close(value, 0.2 * loss(paper_objective(25.0), logits, targets, everyone, masks))
    assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


MEMBERSHIP = class_membership(torch.tensor([[0, 2], [1, 1], [3, 0]]), 4)


def test_smooth_margin_and_its_gradient_equal_the_oracle() -> None:
    logits = (4 * random(3, 4)).requires_grad_()
    values = smooth_margin(logits, MEMBERSHIP)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    for row, classes in enumerate([(0, 2), (1,), (3, 0)]):
        value, derivative = oracle.smooth_margin(logits[row].detach().numpy(), classes)
        torch.testing.assert_close(values[row].item(), float(value))
        torch.testing.assert_close(gradient[row], torch.from_numpy(derivative))


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 1e4])
def test_smooth_margin_is_below_the_margin_and_close_where_two_classes_decide(scale: float) -> None:
    logits, classes = scale * random(50, 10), torch.arange(50)[:, None] % 10
    membership = class_membership(torch.cat([classes, (classes + 3) % 10], dim=1), 10)
    smooth, hard = smooth_margin(logits, membership), margin(logits, membership)
    assert (smooth <= hard).all()
    assert (hard - smooth <= math.log(2) + math.log(8) + 1e-9).all()


def test_smooth_margin_does_not_depend_on_the_level_of_the_logits() -> None:
    logits = random(3, 4)
    torch.testing.assert_close(smooth_margin(logits + 50, MEMBERSHIP), smooth_margin(logits, MEMBERSHIP))


@pytest.mark.parametrize("roughness_weight", [0.0, 10.0])
def test_criterion_objective_is_the_papers_minus_the_smooth_margin(roughness_weight: float) -> None:
    logits, targets, masks = 4 * random(3, 4), soft_targets(), random_masks(3, 2, 6, 5)
    objective = loss(criterion_objective(25.0, roughness_weight), logits, targets, MEMBERSHIP, masks)
    paper = loss(paper_objective(25.0, roughness_weight), logits, targets, MEMBERSHIP, masks)
    torch.testing.assert_close(objective, paper - 1.5 * smooth_margin(logits, MEMBERSHIP))


def test_criterion_objective_is_positive_where_a_set_is_not_solved() -> None:
    logits, masks, membership = 5 * random(200, 4), random_masks(200, 2, 3, 3), MEMBERSHIP[[0, 2]].repeat(100, 1)
    objective = loss(criterion_objective(0.0), logits, membership.double() / 2, membership, masks)
    unsolved = margin(logits, membership) <= 0
    assert 20 < unsolved.sum() < 180
    assert (objective[unsolved] > 0).all()


def test_criterion_objective_without_a_class_outside_has_no_margin_and_a_finite_gradient() -> None:
    logits, masks = random(2, 3).requires_grad_(), random_masks(2, 3, 4, 4)
    targets = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    membership = torch.tensor([[True, True, True], [True, False, True]])
    values = loss(criterion_objective(25.0), logits, targets, membership, masks)
    torch.testing.assert_close(values[0], (divergence(logits, targets) + 25 * sparsity(masks))[0])
    assert torch.autograd.grad(values.sum(), logits)[0].isfinite().all()
