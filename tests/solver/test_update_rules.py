"""Newton with and without smooth projection, gradient descent, and the bound on a step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supermix_pl.solver import SGD, Newton, NewtonSmoothProjection, UpdateRule
from supermix_pl.solver.update_rules import bound_step
from tests import oracle
from tests.problems import repeatable


def gradients(*, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


LOSSES = torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64)


@pytest.mark.parametrize("rule", [NewtonSmoothProjection(sigma=1.0), NewtonSmoothProjection(sigma=2.5), Newton()])
def test_newton_solves_the_linear_model_in_every_set(rule: UpdateRule) -> None:
    change = rule.step(LOSSES, gradients())
    slope = (change * gradients()).sum(dim=(1, 2, 3))
    torch.testing.assert_close(LOSSES + slope, torch.zeros(3).double(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("sigma", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_equals_the_oracle_also_where_the_length_is_clamped(scale: float, sigma: float) -> None:
    change = NewtonSmoothProjection(sigma=sigma).step(LOSSES, gradients(scale=scale))
    for row, loss in enumerate(LOSSES.tolist()):
        expected = torch.from_numpy(oracle.newton_update(loss, gradients(scale=scale)[row].numpy(), sigma))
        torch.testing.assert_close(change[row], expected, rtol=1e-9, atol=0.0)


def test_length_is_clamped_on_both_sides() -> None:
    long = Newton().step(LOSSES, gradients(scale=1e-6))
    torch.testing.assert_close(long, -2000.0 * gradients(scale=1e-6))
    short = Newton().step(LOSSES, gradients(scale=1e3))
    torch.testing.assert_close(short, -1e-4 * gradients(scale=1e3))


def test_newton_is_smooth_projection_with_the_identity() -> None:
    assert torch.equal(Newton().step(LOSSES, gradients()), NewtonSmoothProjection(sigma=0.0).step(LOSSES, gradients()))


def test_a_gradient_of_zero_leaves_the_masks_where_they_are() -> None:
    for rule in (NewtonSmoothProjection(), Newton(), SGD()):
        assert torch.equal(rule.step(LOSSES, torch.zeros(3, 2, 4, 4).double()).abs(), torch.zeros(3, 2, 4, 4).double())


def test_gradient_descent_does_not_look_at_the_loss() -> None:
    torch.testing.assert_close(SGD(learning_rate=0.3).step(LOSSES, gradients()), -0.3 * gradients())
    torch.testing.assert_close(SGD().step(7 * LOSSES, gradients()), -0.1 * gradients())


def test_only_rules_without_projection_ask_for_total_variation() -> None:
    rules = (NewtonSmoothProjection(), Newton(), SGD(), SGD(roughness_weight=3.0))
    assert [rule.roughness_weight for rule in rules] == [0.0, 250.0, 250.0, 3.0]
    assert all(isinstance(rule, UpdateRule) for rule in rules)


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=8, max_size=8), largest=st.floats(1e-3, 1e3), scale=st.floats(0, 10)
)
@repeatable
def test_bound_keeps_the_direction_of_every_set(values: list[float], largest: float, scale: float) -> None:
    change = scale * torch.tensor(values, dtype=torch.float64).view(2, 1, 2, 2)
    bounded = bound_step(change, largest)
    for ours, free in zip(bounded, change, strict=True):
        expected = torch.from_numpy(oracle.bound(free.numpy(), largest))
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0.0)
    assert (bounded.abs() <= largest * (1 + 1e-12)).all()


def test_without_a_bound_nothing_changes() -> None:
    assert bound_step(gradients(), None).equal(gradients())
    assert bound_step(gradients(), 1e9).equal(gradients())
