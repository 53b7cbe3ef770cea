"""The batched solver against the oracle, which solves one set at a time from the paper's formulas.

Both run in float64 with a smooth teacher and few steps: a rounding error grows some tenfold in a step, so that longer
trajectories part even where both are right.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from supermix_pl.solver import SGD, Newton, NewtonSmoothProjection, Sets, Solution, UpdateRule
from supermix_pl.solver.objective import criterion_objective, paper_objective
from tests import oracle
from tests.problems import (
    NUM_CLASSES,
    SmoothTeacher,
    make_sets,
    masks_of,
    mixes_of,
    natural_images,
    outcome_names,
    random_weights,
    solve_sets,
)

RULES: dict[oracle.UpdateRule, UpdateRule] = {
    "newton_sp": NewtonSmoothProjection(sigma=1.0),
    "newton": Newton(),
    "sgd": SGD(learning_rate=5.0),
}
NUM_SETS = 8


def problem(k: int, size: tuple[int, int] = (12, 12), seed: int = 0) -> tuple[SmoothTeacher, Sets, Tensor, Tensor]:
    """A teacher, sets of images that it tells apart, and the classes and weights of their sources."""
    teacher = SmoothTeacher().requires_grad_(False)
    images = natural_images(NUM_SETS + k, size, seed=seed)
    members = torch.arange(NUM_SETS)[:, None] + torch.arange(k)
    classes, weights = teacher(images).argmax(dim=1)[members], random_weights(NUM_SETS, k, seed=seed)
    return teacher, make_sets(images[members], classes, weights), classes, weights


def assert_equal_to_oracle(
    solution: Solution, teacher: SmoothTeacher, sets: Sets, classes: Tensor, weights: Tensor, **arguments: Any
) -> list[oracle.OracleResult]:
    """Solve every set by the oracle and compare all there is to compare."""
    expected = [
        oracle.solve_one(
            teacher, sets.sources[row], classes[row], weights[row], **{"lambda_s": 25.0, "sigma": 1.0, **arguments}
        )
        for row in range(len(classes))
    ]
    assert outcome_names(solution.outcomes) == [one.outcome for one in expected]
    assert solution.num_steps.tolist() == [one.num_steps for one in expected]
    assert solution.forwards == sum(one.forwards for one in expected)
    assert sum(one.backwards for one in expected) <= solution.backwards <= solution.forwards
    close: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-7}
    torch.testing.assert_close(solution.mask_logits, torch.stack([one.mask_logits for one in expected]), **close)
    torch.testing.assert_close(masks_of(solution, sets), torch.stack([one.masks for one in expected]), **close)
    torch.testing.assert_close(mixes_of(solution, sets), torch.stack([one.image for one in expected]), **close)
    torch.testing.assert_close(solution.teacher_logits, torch.stack([one.teacher_logits for one in expected]), **close)
    return expected


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("k", [2, 3, 4])
def test_masks_steps_and_outcomes(k: int, rule: oracle.UpdateRule) -> None:
    teacher, sets, classes, weights = problem(k)
    solution = solve_sets(teacher, sets, RULES[rule], max_steps=8)
    expected = assert_equal_to_oracle(
        solution,
        teacher,
        sets,
        classes,
        weights,
        mask_size=(4, 4),
        min_steps=1,
        max_steps=8,
        update_rule=rule,
        learning_rate=5.0,
    )
    assert {one.outcome for one in expected} == {"solved", "capped"}
    assert len({one.num_steps for one in expected}) >= 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("size", "grid"), [((9, 15), (3, 5)), ((16, 6), (5, 6)), ((7, 7), (1, 1)), ((5, 4), (5, 4))])
def test_rectangular_images_and_masks(size: tuple[int, int], grid: tuple[int, int], rule: oracle.UpdateRule) -> None:
    teacher, sets, classes, weights = problem(3, size, seed=1)
    solution = solve_sets(teacher, sets, RULES[rule], grid=grid, max_steps=5)
    shape: dict[str, Any] = {
        "mask_size": grid,
        "min_steps": 1,
        "max_steps": 5,
        "update_rule": rule,
        "learning_rate": 5.0,
    }
    assert_equal_to_oracle(solution, teacher, sets, classes, weights, **shape)


@pytest.mark.parametrize("rule", RULES)
def test_bounded_step(rule: oracle.UpdateRule) -> None:
    teacher, sets, classes, weights = problem(2)
    arguments: dict[str, Any] = {"min_steps": 1, "max_steps": 8, "max_logit_step": 0.5}
    solution = solve_sets(teacher, sets, RULES[rule], **arguments)
    arguments |= {"mask_size": (4, 4), "update_rule": rule, "learning_rate": 5.0}
    assert_equal_to_oracle(solution, teacher, sets, classes, weights, **arguments)
    assert (solution.mask_logits.abs() <= 0.5 * 8).all()
    free = solve_sets(teacher, sets, RULES[rule], min_steps=1, max_steps=8)
    assert not torch.allclose(free.mask_logits, solution.mask_logits, atol=1e-3)


@pytest.mark.parametrize("max_logit_step", [None, 0.5])
@pytest.mark.parametrize("rule", RULES)
def test_momentum(rule: oracle.UpdateRule, max_logit_step: float | None) -> None:
    teacher, sets, classes, weights = problem(2)
    arguments: dict[str, Any] = {"min_steps": 1, "max_steps": 6, "max_logit_step": max_logit_step}
    solution = solve_sets(teacher, sets, RULES[rule], **arguments, momentum=0.6)
    without = solve_sets(teacher, sets, RULES[rule], **arguments)
    assert not torch.allclose(without.mask_logits, solution.mask_logits, atol=1e-3)
    arguments |= {"mask_size": (4, 4), "update_rule": rule, "learning_rate": 5.0, "momentum": 0.6}
    assert_equal_to_oracle(solution, teacher, sets, classes, weights, **arguments)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("k", [2, 3])
def test_criterion_objective(k: int, rule: oracle.UpdateRule) -> None:
    teacher, sets, classes, weights = problem(k)
    classes[:2] = classes[:2, :1]  # one class only
    sets = make_sets(sets.sources, classes, weights)
    arguments: dict[str, Any] = {"min_steps": 2, "max_steps": 6, "lambda_s": 3.0}
    solution = solve_sets(teacher, sets, RULES[rule], **arguments, build_objective=criterion_objective)
    paper = solve_sets(teacher, sets, RULES[rule], **arguments)
    assert not torch.allclose(paper.mask_logits, solution.mask_logits, atol=1e-3)
    arguments |= {"mask_size": (4, 4), "update_rule": rule, "learning_rate": 5.0, "objective_name": "criterion"}
    assert_equal_to_oracle(solution, teacher, sets, classes, weights, **arguments)


@pytest.mark.parametrize("arguments", [{"lambda_s": 0.0}, {"lambda_s": 100.0}, {"sigma": 0.0}, {"sigma": 2.0}])
def test_hyper_parameters(arguments: dict[str, float]) -> None:
    teacher, sets, classes, weights = problem(3, seed=2)
    rule = NewtonSmoothProjection(sigma=arguments.get("sigma", 1.0))
    solution = solve_sets(teacher, sets, rule, lambda_s=arguments.get("lambda_s", 25.0), max_steps=6)
    assert_equal_to_oracle(
        solution, teacher, sets, classes, weights, mask_size=(4, 4), min_steps=1, max_steps=6, **arguments
    )


@pytest.mark.parametrize(("min_steps", "max_steps"), [(0, 4), (3, 6), (4, 4), (1, 1)])
def test_bounds_on_the_number_of_steps(min_steps: int, max_steps: int) -> None:
    teacher, sets, classes, weights = problem(2, seed=1)
    steps: dict[str, Any] = {"min_steps": min_steps, "max_steps": max_steps}
    solution = solve_sets(teacher, sets, RULES["newton_sp"], **steps)
    assert_equal_to_oracle(solution, teacher, sets, classes, weights, mask_size=(4, 4), **steps)
    assert (solution.num_steps >= min_steps).all()


@pytest.mark.parametrize("rule", RULES)
def test_sources_that_share_a_class(rule: oracle.UpdateRule) -> None:
    teacher, sets, classes, weights = problem(3)
    classes[:3] = classes[:3, :1]  # one class only
    classes[3:6, 2] = classes[3:6, 0]  # two of three
    sets = make_sets(sets.sources, classes, weights)
    solution = solve_sets(teacher, sets, RULES[rule], max_steps=6)
    arguments: dict[str, Any] = {
        "mask_size": (4, 4),
        "min_steps": 1,
        "max_steps": 6,
        "update_rule": rule,
        "learning_rate": 5.0,
    }
    assert_equal_to_oracle(solution, teacher, sets, classes, weights, **arguments)


def test_start_elsewhere_than_at_zero() -> None:
    teacher, sets, classes, weights = problem(2)
    start = torch.randn(NUM_SETS, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    solution = solve_sets(teacher, sets, RULES["newton_sp"], start=start, max_steps=6)
    for row in range(NUM_SETS):
        one = oracle.solve_one(
            teacher,
            sets.sources[row],
            classes[row],
            weights[row],
            mask_size=(4, 4),
            lambda_s=25.0,
            sigma=1.0,
            min_steps=1,
            max_steps=6,
            init_logits=start[row],
        )
        assert solution.num_steps[row] == one.num_steps
        torch.testing.assert_close(solution.mask_logits[row], one.mask_logits, rtol=1e-6, atol=1e-7)


def test_every_class_in_the_set() -> None:
    teacher, sets, _, weights = problem(NUM_CLASSES)
    classes = torch.arange(NUM_CLASSES).expand(NUM_SETS, -1)
    sets = make_sets(sets.sources, classes, weights)
    for name, build in {"paper": paper_objective, "criterion": criterion_objective}.items():
        solution = solve_sets(teacher, sets, RULES["newton_sp"], max_steps=4, build_objective=build)
        arguments: dict[str, Any] = {"mask_size": (4, 4), "min_steps": 1, "max_steps": 4, "objective_name": name}
        assert_equal_to_oracle(solution, teacher, sets, classes, weights, **arguments)
        assert solution.num_steps.tolist() == [1] * NUM_SETS
