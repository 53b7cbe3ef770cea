"""The loop: who goes on, who ends as what, what it costs, and that sets do not see each other."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermix_pl.solver import SGD, Newton, NewtonSmoothProjection, Outcome, Sets, UpdateRule
from supermix_pl.solver.criterion import margin
from supermix_pl.solver.objective import divergence
from tests.problems import (
    NUM_CLASSES,
    BlindToMarked,
    Counting,
    SmoothTeacher,
    make_sets,
    mark,
    mixes_of,
    natural_images,
    random_weights,
    solve_sets,
)

RULES = [NewtonSmoothProjection(), Newton(), SGD(learning_rate=5.0)]
TEACHER = SmoothTeacher().requires_grad_(False)


def problem(count: int = 10, k: int = 2, seed: int = 0, images: Tensor | None = None) -> Sets:
    images = natural_images(count, seed=seed) if images is None else images
    members = (torch.arange(count)[:, None] + torch.arange(k)) % count
    return make_sets(images[members], TEACHER(images).argmax(dim=1)[members], random_weights(count, k, seed=seed))


def one_of(sets: Sets, row: int) -> Sets:
    return sets.take(torch.tensor([row]))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("max_logit_step", "momentum"), [(None, 0.0), (0.5, 0.0), (0.5, 0.7)])
def test_a_set_alone_equals_its_row_in_a_batch(rule: UpdateRule, max_logit_step: float | None, momentum: float) -> None:
    sets = problem()
    together = solve_sets(TEACHER, sets, rule, max_logit_step=max_logit_step, momentum=momentum)
    assert len(set(together.num_steps.tolist())) >= 2
    for row in range(10):
        alone = solve_sets(TEACHER, one_of(sets, row), rule, max_logit_step=max_logit_step, momentum=momentum)
        assert alone.outcomes[0] == together.outcomes[row]
        assert alone.num_steps[0] == together.num_steps[row]
        assert alone.forwards == together.num_steps[row] + 1
        torch.testing.assert_close(alone.mask_logits[0], together.mask_logits[row], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(alone.teacher_logits[0], together.teacher_logits[row], rtol=1e-6, atol=1e-7)


def test_the_order_of_the_sets_does_not_matter() -> None:
    sets, order = problem(), torch.tensor([3, 9, 0, 1, 7, 2, 5, 4, 8, 6])
    straight = solve_sets(TEACHER, sets, RULES[0])
    shuffled = solve_sets(TEACHER, sets.take(order), RULES[0])
    assert shuffled.outcomes.equal(straight.outcomes[order])
    assert shuffled.num_steps.equal(straight.num_steps[order])
    torch.testing.assert_close(shuffled.mask_logits, straight.mask_logits[order], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rule", RULES)
def test_solved_sets_do_not_move(rule: UpdateRule) -> None:
    sets = problem()
    early, late = solve_sets(TEACHER, sets, rule, max_steps=2), solve_sets(TEACHER, sets, rule, max_steps=7)
    done = early.outcomes == Outcome.SOLVED
    assert 0 < done.sum() < len(done)
    assert late.outcomes[done].eq(Outcome.SOLVED).all()
    assert late.num_steps[done].equal(early.num_steps[done])
    assert late.mask_logits[done].equal(early.mask_logits[done])
    assert late.teacher_logits[done].equal(early.teacher_logits[done])
    assert late.num_steps[~done].gt(2).all()


@pytest.mark.parametrize("min_steps", [0, 1, 3])
@pytest.mark.parametrize("rule", RULES)
def test_pass_accounting_is_exact(rule: UpdateRule, min_steps: int) -> None:
    teacher = Counting(TEACHER)
    solution = solve_sets(teacher, problem(k=3), rule, min_steps=min_steps)
    assert solution.forwards == teacher.forwards == (solution.num_steps + 1).sum()
    assert solution.backwards == teacher.backwards
    assert solution.num_steps.sum() <= solution.backwards <= solution.forwards


def test_the_last_forward_is_not_differentiated() -> None:
    teacher = Counting(TEACHER)
    solution = solve_sets(teacher, one_of(problem(), 7), RULES[0], max_steps=3)
    assert solution.outcomes.tolist() == [Outcome.CAPPED]
    assert (teacher.forwards, teacher.backwards) == (4, 3)


def test_nothing_is_differentiated_once_all_are_solved() -> None:
    teacher = Counting(TEACHER)
    solution = solve_sets(teacher, problem(), RULES[0], min_steps=0, max_steps=50)
    easy = problem().take((solution.num_steps == 0).nonzero().squeeze(1))
    teacher.forwards, teacher.backwards = 0, 0
    again = solve_sets(teacher, easy, RULES[0], min_steps=0, max_steps=50)
    assert len(again.num_steps) > 0
    assert (again.forwards, again.backwards) == (teacher.forwards, teacher.backwards) == (len(again.num_steps), 0)


def test_teacher_logits_are_those_of_the_returned_masks() -> None:
    sets = problem(k=3)
    solution = solve_sets(TEACHER, sets, RULES[0])
    torch.testing.assert_close(solution.teacher_logits, TEACHER(mixes_of(solution, sets)))
    torch.testing.assert_close(solution.margins, margin(solution.teacher_logits, sets.membership))
    assert solution.margins.gt(0).equal(solution.outcomes == Outcome.SOLVED)


def test_a_capped_set_keeps_the_mix_of_largest_margin() -> None:
    sets = problem()
    final = solve_sets(TEACHER, sets, RULES[0], max_steps=4)
    capped = (final.outcomes == Outcome.CAPPED).nonzero().squeeze(1)
    margins = torch.stack([solve_sets(TEACHER, sets, RULES[0], min_steps=t, max_steps=t).margins for t in range(1, 5)])
    torch.testing.assert_close(final.margins[capped], margins[:, capped].amax(dim=0), rtol=1e-6, atol=1e-7)
    assert margins[:, capped].argmax(dim=0).ne(3).any()  # the last step is not always the best


def test_min_steps_0_accepts_the_plain_average() -> None:
    sets = problem()
    average = margin(TEACHER(sets.sources.mean(dim=1)), sets.membership) > 0
    assert 0 < average.sum() < len(average)
    zero, one = (solve_sets(TEACHER, sets, RULES[0], min_steps=steps) for steps in (0, 1))
    assert zero.num_steps.eq(0).equal(average)
    assert zero.mask_logits[average].eq(0).all()
    assert one.num_steps.ge(1).all()
    assert zero.num_steps[~average].equal(one.num_steps[~average])


@pytest.mark.parametrize("max_steps", [1, 2, 5])
def test_no_set_takes_more_than_max_steps(max_steps: int) -> None:
    solution = solve_sets(TEACHER, problem(), RULES[0], max_steps=max_steps)
    assert solution.num_steps.max() == max_steps
    assert solution.num_steps[solution.outcomes == Outcome.CAPPED].eq(max_steps).all()


def steep(images: Tensor) -> Tensor:
    """Logits whose gradients are large enough for steps shorter than the clamp."""
    return 20 * TEACHER(images)


def first_change(sets: Sets, rule: UpdateRule, lambda_s: float) -> Tensor:
    return solve_sets(steep, sets, rule, lambda_s=lambda_s, min_steps=1, max_steps=1).mask_logits


@pytest.mark.parametrize("rule", [NewtonSmoothProjection(), NewtonSmoothProjection(sigma=2.0), Newton()])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_first_step_is_only_lengthened_by_sparsity(k: int, rule: UpdateRule) -> None:
    sets = problem(k=k)
    kl = divergence(steep(sets.sources.mean(dim=1)), sets.soft_targets)
    short, long = first_change(sets, rule, 0.0), first_change(sets, rule, 25.0)
    ratio = (kl + 25 * (k - 1) / k**2) / kl
    torch.testing.assert_close(long, ratio[:, None, None, None] * short, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_first_step_of_gradient_descent_does_not_see_sparsity(k: int) -> None:
    sets = problem(k=k)
    changes = [first_change(sets, SGD(learning_rate=5.0), lambda_s) for lambda_s in (0.0, 25.0)]
    torch.testing.assert_close(*changes, rtol=1e-9, atol=1e-12)
    assert changes[0].abs().amax(dim=(1, 2, 3)).median() > 1e-3


def test_sources_of_one_class_are_solved_by_that_class_alone() -> None:
    images = natural_images(60)
    classes = TEACHER(images).argmax(dim=1)
    rows = (classes == classes.mode().values).nonzero().squeeze(1)[:6]
    sets = make_sets(images[rows].view(2, 3, *images.shape[1:]), classes[rows].view(2, 3), random_weights(2, 3))
    solution = solve_sets(TEACHER, sets, RULES[0])
    assert solution.outcomes.tolist() == [Outcome.SOLVED] * 2
    assert solution.teacher_logits.argmax(dim=1).tolist() == [classes.mode().values] * 2


def test_one_source_is_solved_in_min_steps_with_its_own_image() -> None:
    sets = problem(k=1)
    solution = solve_sets(TEACHER, sets, RULES[0], min_steps=2)
    assert solution.outcomes.eq(Outcome.SOLVED).all()
    assert solution.num_steps.eq(2).all()
    assert mixes_of(solution, sets).equal(sets.sources[:, 0])


def test_every_class_in_the_set_ends_after_min_steps() -> None:
    sets = problem(k=NUM_CLASSES)
    sets = replace(sets, membership=torch.ones_like(sets.membership))
    solution = solve_sets(TEACHER, sets, RULES[0], min_steps=3)
    assert solution.outcomes.eq(Outcome.SOLVED).all()
    assert solution.num_steps.eq(3).all()


def test_a_set_that_the_teacher_cannot_see_ends_at_once_and_harms_no_other() -> None:
    images = mark(natural_images(10), 4)
    sets = problem(images=images)
    teacher = Counting(BlindToMarked(TEACHER))
    solution = solve_sets(teacher, sets, RULES[0])
    lost = torch.tensor([3, 4])
    assert (solution.outcomes == Outcome.NON_FINITE).nonzero().squeeze(1).equal(lost)
    assert solution.num_steps[lost].tolist() == [0, 0]
    assert (solution.forwards, solution.backwards) == (teacher.forwards, teacher.backwards)
    assert solution.forwards == (solution.num_steps + 1).sum()
    others = torch.tensor([row for row in range(10) if row not in (3, 4)])
    alone = solve_sets(TEACHER, sets.take(others), RULES[0])
    torch.testing.assert_close(solution.mask_logits[others], alone.mask_logits, rtol=1e-6, atol=1e-7)
    assert solution.num_steps[others].equal(alone.num_steps)


def test_a_set_that_becomes_non_finite_on_the_way_is_not_called_capped() -> None:
    class Limited(nn.Module):
        """NaN as soon as the masks part."""

        def forward(self, images: Tensor) -> Tensor:
            logits = TEACHER(images)
            moved = (images - averages[: len(images)]).abs().amax(dim=(1, 2, 3)) > 1e-6
            return logits.masked_fill(moved[:, None], torch.inf)

    sets = one_of(problem(), 0)
    averages = sets.sources.mean(dim=1)
    solution = solve_sets(Limited(), sets, RULES[0], min_steps=0)
    assert solution.outcomes.tolist() == [Outcome.NON_FINITE]
    assert solution.num_steps.tolist() == [1]
    assert solution.mask_logits.isfinite().all()


def test_masks_that_become_nan_end_a_set_even_if_the_teacher_shrugs_nan_off() -> None:
    class Shrugging(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            steep = (images - images.detach()).pow(2).sum(dim=(1, 2, 3)).sqrt()  # its gradient is 0 / 0
            return TEACHER(images.nan_to_num()) + steep.nan_to_num()[:, None]

    solution = solve_sets(Shrugging(), problem(), RULES[0])
    assert solution.outcomes.eq(Outcome.NON_FINITE).all()
    assert solution.mask_logits.isfinite().all()


class Half(nn.Module):
    """Step to +-1 by hand: a rule from outside the package."""

    roughness_weight = 0.0

    def step(self, loss: Tensor, gradient: Tensor) -> Tensor:
        return -gradient.sign() / 2


class Push:
    """Every logit up by 1."""

    roughness_weight = 0.0

    def step(self, loss: Tensor, gradient: Tensor) -> Tensor:
        return torch.ones_like(gradient)


def test_a_rule_of_the_users_own_is_followed() -> None:
    rule = Half()
    assert isinstance(rule, UpdateRule)
    solution = solve_sets(TEACHER, problem(), rule, min_steps=2, max_steps=2)
    assert set(solution.mask_logits.abs().unique().tolist()) <= {0.0, 0.5, 1.0}


@pytest.mark.parametrize(("bound", "changes"), [(None, [1, 1.5, 1.75]), (1.25, [1, 1.25, 1.25])])
def test_momentum_adds_up_steps_that_agree(bound: float | None, changes: list[float]) -> None:
    """Nesterov's: masks are tested half a change ahead of where they are."""
    options: dict[str, Any] = {"min_steps": 3, "max_steps": 3, "momentum": 0.5, "max_logit_step": bound}
    tested = solve_sets(TEACHER, problem(), Push(), **options)
    assert tested.mask_logits[0].unique().tolist() == [sum(changes) + changes[-1] / 2]
    reached = solve_sets(TEACHER, problem(), Push(), **options, early_stop=False)
    assert reached.mask_logits[0].unique().tolist() == [sum(changes)]


def test_inputs_are_left_alone() -> None:
    sets = problem()
    start = torch.zeros(10, 2, 4, 4).double()
    before = [sets.sources.clone(), sets.soft_targets.clone(), sets.membership.clone()]
    solve_sets(TEACHER, sets, RULES[0], start=start)
    assert start.eq(0).all()
    assert not start.requires_grad
    for tensor, copy in zip((sets.sources, sets.soft_targets, sets.membership), before, strict=True):
        assert tensor.equal(copy)


def test_a_solution_holds_no_graph() -> None:
    solution = solve_sets(TEACHER, problem(), RULES[0])
    tensors = [value for value in vars(solution).values() if isinstance(value, Tensor)]
    assert len(tensors) == 5
    assert not any(tensor.requires_grad for tensor in tensors)


def test_a_tie_between_inside_and_outside_is_not_solved() -> None:
    def undecided(images: Tensor) -> Tensor:
        return torch.ones(len(images), NUM_CLASSES, dtype=images.dtype) + 0 * images.sum(dim=(1, 2, 3))[:, None]

    solution = solve_sets(undecided, problem(), RULES[0], max_steps=2)
    assert solution.outcomes.eq(Outcome.CAPPED).all()
    assert solution.margins.eq(0).all()
