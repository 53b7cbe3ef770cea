"""Sets in slots end as they would alone, whenever they enter."""

import numpy as np
import pytest
import torch

from supermix_pl.engine.slots import Slots
from supermix_pl.mixing.drawn import DrawnSets
from supermix_pl.solver import NewtonSmoothProjection, Outcome, Solver, solve
from supermix_pl.solver.objective import paper_objective
from tests.problems import NUM_CLASSES, BlindToMarked, SmoothTeacher, mark, natural_images, random_weights

TEACHER = SmoothTeacher().requires_grad_(False)
RULE = NewtonSmoothProjection()
SOLVER = Solver(objective=paper_objective(25.0), update_rule=RULE, max_logit_step=None, min_steps=1, max_steps=6)
COUNT = 10


def drawn_sets(images: torch.Tensor | None = None) -> tuple[DrawnSets, torch.Tensor]:
    images = natural_images(COUNT) if images is None else images
    members = (torch.arange(COUNT)[:, None] + torch.arange(2)) % COUNT
    logits = TEACHER(images.nan_to_num())
    classes = logits.argmax(dim=1)
    drawn = DrawnSets(images[members], members, classes[members], random_weights(COUNT, 2), logits)
    return drawn, torch.zeros(COUNT, 2, 4, 4).double()


@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 3, 10, 16])
def test_every_set_ends_as_the_batch_loop_ends_it(count: int, rounds: int) -> None:
    drawn, start = drawn_sets()
    expected = solve(SOLVER, TEACHER, drawn.sets, start)
    assert len(set(expected.num_steps.tolist())) >= 2
    slots = Slots(count, drawn, start)
    waiting, inside, ended, steps = list(range(COUNT)), {}, {}, 0
    while len(ended) < COUNT:
        free = slots.free()
        assert set(free) == set(range(count)) - set(inside)
        entering, waiting = waiting[: len(free)], waiting[len(free) :]
        if entering:
            rows = torch.tensor(entering)
            slots.enter(free[: len(entering)], drawn.take(rows), start[rows])
            inside |= dict(zip(free.tolist(), entering, strict=False))
        slots.advance(SOLVER, TEACHER, rounds)
        steps += 1
        left = slots.leave()
        if left is not None:
            gone = sorted(set(inside) - set(np.setdiff1d(np.arange(count), slots.free())))
            for row, slot in enumerate(gone):
                number = inside.pop(slot)
                ended[number] = left[1]
                assert left[0].mix_weights[row].equal(drawn.mix_weights[number])
                assert left[0].source_indices[row].eq(-1).all()
                assert left[1].outcomes[row] == expected.outcomes[number]
                assert left[1].num_steps[row] == expected.num_steps[number]
                assert left[1].margins[row].isclose(expected.margins[number])
                for name in ("mask_logits", "teacher_logits"):
                    torch.testing.assert_close(getattr(left[1], name)[row], getattr(expected, name)[number])
    assert steps <= COUNT * 7


def test_a_set_without_a_finite_logit_leaves_non_finite() -> None:
    drawn, start = drawn_sets(mark(natural_images(COUNT), 4))
    slots = Slots(COUNT, drawn, start)
    slots.enter(np.arange(COUNT), drawn, start)
    slots.advance(SOLVER, BlindToMarked(TEACHER), 1)
    left = slots.leave()
    assert left is not None
    assert (left[1].outcomes == Outcome.NON_FINITE).sum() == 2
    slots.advance(SOLVER, BlindToMarked(TEACHER), 9)
    others = slots.leave()
    assert others is not None
    assert len(left[1].outcomes) + len(others[1].outcomes) == COUNT
    assert others[1].mask_logits.isfinite().all()


def test_empty_slots_do_not_leave() -> None:
    drawn, start = drawn_sets()
    slots = Slots(4, drawn, start)
    slots.advance(SOLVER, TEACHER, 3)
    assert slots.leave() is None
    assert (len(slots), slots.k, slots.image_shape) == (4, 2, drawn.sources.shape[2:])
    assert slots.tensors()["drawn/own_logits"].shape == (4, NUM_CLASSES)


def test_saved_and_loaded_goes_on_alike() -> None:
    drawn, start = drawn_sets()
    slots = Slots(5, drawn, start)
    first = torch.arange(3)
    slots.enter(np.arange(3), drawn.take(first), start[first])
    slots.advance(SOLVER, TEACHER, 1)
    other = Slots.from_tensors({name: value.clone() for name, value in slots.tensors().items()}, torch.device("cpu"))
    results = []
    for one in (slots, other):
        one.leave()
        one.enter(one.free()[:2], drawn.take(torch.tensor([7, 8])), start[:2])
        one.advance(SOLVER, TEACHER, 8)
        results.append(one.leave())
    assert results[0][0].mix_weights.equal(results[1][0].mix_weights)
    for name in ("mask_logits", "teacher_logits", "outcomes", "num_steps"):
        assert getattr(results[0][1], name).equal(getattr(results[1][1], name))
