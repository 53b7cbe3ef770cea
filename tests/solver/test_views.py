"""Fixed rounds, under a view that is drawn anew in each: against the oracle, in chunks, and what a round gives back."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermix_pl import FrozenTeacher
from supermix_pl.mixing.views import Viewer
from supermix_pl.solver import NewtonSmoothProjection, Outcome, Sets, Solver, SolverState, advance
from supermix_pl.solver.criterion import margin
from supermix_pl.solver.masks import mix_images, normalized_masks
from supermix_pl.solver.objective import criterion_objective
from supermix_pl.teacher.passes import Chunks
from supermix_pl.transforms import RandomCropFlip, View
from tests import oracle
from tests.problems import (
    NUM_CLASSES,
    BlindToMarked,
    Counting,
    SmoothTeacher,
    make_sets,
    mark,
    masks_of,
    natural_images,
    random_weights,
    solve_sets,
)

TEACHER = SmoothTeacher().requires_grad_(False)
RULE = NewtonSmoothProjection()
VIEW = RandomCropFlip(padding=1)
COUNT, STEPS = 8, 5
OPTIONS: dict[str, Any] = {
    "early_stop": False,
    "max_steps": STEPS,
    "lambda_s": 3.0,
    "max_logit_step": 2.0,
    "momentum": 0.5,
    "build_objective": criterion_objective,
}
SOLVER = Solver(
    objective=criterion_objective(3.0),
    update_rule=RULE,
    max_logit_step=2.0,
    min_steps=1,
    max_steps=STEPS,
    momentum=0.5,
    early_stop=False,
)


def problem(k: int = 2, images: Tensor | None = None) -> tuple[Sets, Tensor, Tensor]:
    images = natural_images(COUNT) if images is None else images
    members = (torch.arange(COUNT)[:, None] + torch.arange(k)) % COUNT
    classes, weights = TEACHER(images).argmax(dim=1)[members], random_weights(COUNT, k)
    return make_sets(images[members], classes, weights), classes, weights


def looking_through(view: View | None, key: Tensor, look: int) -> oracle.Teacher:
    """The teacher behind the view of one look at one set, which is made pixel by pixel."""

    def see(images: Tensor) -> Tensor:
        if view is None:
            return TEACHER(images)
        drawn = view.draw(key.view(1), torch.tensor([look]), (images.shape[2], images.shape[3]))
        top, left, mirrored = drawn[0].tolist()
        return TEACHER(oracle.crop_and_flip(images[0], top, left, mirrored=bool(mirrored), padding=1)[None])

    return see


@pytest.mark.parametrize("view", [None, VIEW])
@pytest.mark.parametrize("k", [2, 3])
def test_every_set_takes_all_steps_and_ends_with_its_last_masks(k: int, view: RandomCropFlip | None) -> None:
    sets, classes, weights = problem(k)
    counting = Counting(TEACHER)
    solution = solve_sets(counting, sets, RULE, **OPTIONS, show=Viewer(view, (0,)))
    settings: dict[str, Any] = {"lambda_s": 3.0, "sigma": 1.0, "max_logit_step": 2.0, "momentum": 0.5}
    for row in range(COUNT):
        teachers = [looking_through(view, sets.keys[row], look) for look in range(STEPS)]
        masks, logits = oracle.solve_fixed(
            teachers, sets.sources[row], classes[row], weights[row], mask_size=(4, 4), objective_name="criterion",
            **settings,
        )  # fmt: skip
        torch.testing.assert_close(solution.mask_logits[row], masks, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(solution.teacher_logits[row], logits, rtol=1e-6, atol=1e-7)
    assert solution.num_steps.tolist() == [STEPS] * COUNT
    assert solution.forwards == solution.backwards == counting.forwards == counting.backwards == STEPS * COUNT
    assert solution.outcomes.eq(Outcome.SOLVED).equal(margin(solution.teacher_logits, sets.membership) > 0)


def test_views_make_other_masks() -> None:
    sets, _, _ = problem()
    plain, viewed = (solve_sets(TEACHER, sets, RULE, **OPTIONS, show=Viewer(view, (0,))) for view in (None, VIEW))
    assert not torch.isclose(plain.mask_logits, viewed.mask_logits, atol=1e-3).flatten(1).all(dim=1).any()


def test_the_best_of_the_early_tests_is_no_end() -> None:
    """What early stopping would keep, the masks of the largest margin, is not what fixed steps end with."""
    sets, _, _ = problem()
    fixed = solve_sets(TEACHER, sets, RULE, **OPTIONS)
    early = solve_sets(TEACHER, sets, RULE, **{**OPTIONS, "early_stop": True, "min_steps": 1})
    assert early.num_steps.lt(STEPS).any()
    assert not fixed.mask_logits.equal(early.mask_logits)
    assert fixed.outcomes.eq(Outcome.SOLVED).any()


@pytest.mark.parametrize("chunk_size", [1, 3, 8])
def test_chunks_change_no_view(chunk_size: int) -> None:
    sets, _, _ = problem()
    whole = solve_sets(TEACHER, sets, RULE, **OPTIONS, show=Viewer(VIEW, (0,)))
    chunks = Chunks(FrozenTeacher(SmoothTeacher()), chunk_size)
    parts = solve_sets(TEACHER, sets, RULE, **OPTIONS, show=Viewer(VIEW, (0,)), chunks=chunks)
    torch.testing.assert_close(parts.mask_logits, whole.mask_logits, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(parts.teacher_logits, whole.teacher_logits, rtol=1e-6, atol=1e-7)


def test_some_of_the_sets_in_another_order_get_the_same_views() -> None:
    sets, _, _ = problem()
    whole = solve_sets(TEACHER, sets, RULE, **OPTIONS, show=Viewer(VIEW, (0,)))
    rows = torch.tensor([6, 1, 4])
    some = solve_sets(TEACHER, sets.take(rows), RULE, **OPTIONS, show=Viewer(VIEW, (99,)))
    torch.testing.assert_close(some.mask_logits, whole.mask_logits[rows], rtol=1e-6, atol=1e-7)


def test_sets_that_leave_early_take_no_view_from_the_others() -> None:
    """Compaction: the views of those that are left do not depend on who has gone."""
    sets, _, _ = problem()
    options = {**OPTIONS, "early_stop": True, "max_steps": 6}
    together = solve_sets(TEACHER, sets, RULE, **options, show=Viewer(VIEW, (0,)))
    assert len(together.num_steps.unique()) >= 2
    for row in range(COUNT):
        alone = solve_sets(TEACHER, sets.take(torch.tensor([row])), RULE, **options, show=Viewer(VIEW, (0,)))
        assert alone.num_steps[0] == together.num_steps[row]
        torch.testing.assert_close(alone.mask_logits[0], together.mask_logits[row], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("view", [None, VIEW])
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_a_round_gives_what_the_teacher_was_shown_with_its_logits_of_that(
    view: RandomCropFlip | None, chunk_size: int | None
) -> None:
    sets, _, _ = problem()
    state = SolverState.start(torch.zeros(COUNT, 2, 4, 4).double(), NUM_CLASSES)
    chunks = Chunks(FrozenTeacher(SmoothTeacher()), chunk_size)
    for look in range(STEPS + 2):
        before = state
        state, rendered, seen = advance(SOLVER, TEACHER, sets, state, Viewer(view, (0,)), chunks)
        shown, masks = rendered.images, normalized_masks(before.mask_logits, (12, 12))
        mixes = mix_images(sets.sources, masks)
        looks = torch.full((COUNT,), min(look, STEPS))
        expected = mixes if view is None else view.apply(mixes, view.draw(sets.keys, looks, (12, 12)))
        torch.testing.assert_close(shown, expected)
        torch.testing.assert_close(rendered.masks, masks)
        torch.testing.assert_close(seen.logits, TEACHER(shown))
        assert not shown.requires_grad
        assert state.num_steps.tolist() == [min(look + 1, STEPS)] * COUNT
        assert state.running.any() == (look + 1 < STEPS)
    assert state.mask_logits.equal(before.mask_logits)  # what has ended does not move  # pyright: ignore
    assert not state.best_mask_logits.equal(state.mask_logits)  # momentum carries these ahead of where they ended
    solution = solve_sets(TEACHER, sets, RULE, **OPTIONS, show=Viewer(view, (0,)))
    torch.testing.assert_close(state.best_mask_logits, solution.mask_logits, rtol=1e-6, atol=1e-7)


def test_sets_that_the_teacher_cannot_see_stay_where_they_are() -> None:
    sets, _, _ = problem(images=mark(natural_images(COUNT), 4))
    solution = solve_sets(BlindToMarked(TEACHER), sets, RULE, **OPTIONS)
    lost = torch.tensor([row in (3, 4) for row in range(COUNT)])
    assert solution.outcomes.eq(Outcome.NON_FINITE).equal(lost)
    assert solution.num_steps[lost].eq(0).all()
    assert solution.num_steps[~lost].eq(STEPS).all()
    assert solution.mask_logits[lost].eq(0).all()
    assert solution.mask_logits.isfinite().all()


def test_a_set_that_becomes_non_finite_keeps_the_masks_that_the_teacher_saw() -> None:
    class Limited(nn.Module):
        """NaN as soon as the masks part by much."""

        def forward(self, images: Tensor) -> Tensor:
            moved = (images - averages).abs().amax(dim=(1, 2, 3)) > 0.2
            return TEACHER(images).masked_fill(moved[:, None], torch.nan)

    sets, _, _ = problem()
    averages = sets.sources.mean(dim=1)
    solution = solve_sets(Limited(), sets, RULE, **{**OPTIONS, "max_steps": 12})
    assert solution.outcomes.eq(Outcome.NON_FINITE).any()
    assert masks_of(solution, sets).isfinite().all()
    assert solution.num_steps[solution.outcomes.eq(Outcome.NON_FINITE)].lt(12).all()
