"""Sets in slots, whenever they enter and in whatever turns they are visited, end as they would alone."""

from typing import Any

import numpy as np
import pytest
import torch

from supermix_pl.engine.stream.images import ImageStore
from supermix_pl.engine.stream.slots import Drawn, Slots
from supermix_pl.mixing.views import Viewer
from supermix_pl.solver import NewtonSmoothProjection, Outcome, Solver, advance, solve
from supermix_pl.solver.objective import paper_objective
from supermix_pl.transforms import RandomCropFlip
from tests.problems import NUM_CLASSES, BlindToMarked, SmoothTeacher, mark, natural_images, random_weights

TEACHER = SmoothTeacher().requires_grad_(False)
COUNT, STEPS, CPU, DOUBLE = 10, 6, torch.device("cpu"), torch.float64
KEYS = 1000 + np.arange(COUNT)


def solver(*, early_stop: bool) -> Solver:
    return Solver(
        objective=paper_objective(25.0),
        update_rule=NewtonSmoothProjection(),
        max_logit_step=None,
        min_steps=1,
        max_steps=STEPS,
        momentum=0.3,
        early_stop=early_stop,
    )


def sets_of(images: torch.Tensor) -> tuple[ImageStore, Drawn]:
    store = ImageStore(COUNT)
    store.add(images, TEACHER(images).argmax(dim=1))
    places = (torch.arange(COUNT)[:, None] + torch.arange(2)) % COUNT
    return store, Drawn(places, store.classes(places), random_weights(COUNT, 2))


def slots_of(count: int) -> Slots:
    return Slots(count, 2, (4, 4), NUM_CLASSES, CPU, DOUBLE)


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("view", [None, RandomCropFlip(padding=1)])
@pytest.mark.parametrize(
    ("count", "visits"),
    [(4, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 1), (10, 10), (16, 5)))],
)
def test_every_set_ends_as_the_batch_loop_ends_it(count: int, visits: int, view: Any, early_stop: bool) -> None:
    store, drawn = sets_of(natural_images(COUNT))
    rules, start = solver(early_stop=early_stop), torch.zeros(COUNT, 2, 4, 4).double()
    show = Viewer(view, (0,))
    expected = solve(rules, TEACHER, drawn.sets(store, NUM_CLASSES, torch.from_numpy(KEYS)), start, show=show)
    assert len(set(expected.num_steps.tolist())) >= (2 if early_stop else 1)
    slots, waiting, inside, ended = slots_of(count), list(range(COUNT)), dict[int, int](), set[int]()
    for _ in range(60 * COUNT):
        places = slots.turn(visits)
        for place in slots.ended(places, STEPS + early_stop, early=early_stop).tolist():
            number = inside.pop(place)
            ended.add(number)
            state = slots.state.take(torch.tensor([place]))
            assert state.outcomes[0] == expected.outcomes[number]
            assert state.num_steps[0] == expected.num_steps[number]
            for name, wanted in (("best_mask_logits", "mask_logits"), ("teacher_logits", "teacher_logits")):
                found = getattr(state, name)[0]
                torch.testing.assert_close(found, getattr(expected, wanted)[number], rtol=1e-6, atol=1e-7)
            slots.occupied[place] = False
        free = places[~slots.occupied[places]]
        entering, waiting = waiting[: len(free)], waiting[len(free) :]
        if entering:
            rows = torch.tensor(entering)
            taken = free[: len(entering)]
            slots.enter(taken, drawn.take(rows), KEYS[entering], start[rows], np.zeros_like(entering), 0)
            inside |= dict(zip(taken.tolist(), entering, strict=True))
        if len(ended) == COUNT:
            break
        rows = torch.from_numpy(places)
        keys, looks = slots.looks(places)
        sets, before = slots.drawn.take(rows).sets(store, NUM_CLASSES, keys), slots.state.take(rows)
        assert looks[slots.occupied[places]].equal(before.num_steps[slots.occupied[places]])
        state, _, _ = advance(rules, TEACHER, sets, before, show)
        slots.visited(places, state, early=early_stop)
    assert ended == set(range(COUNT))


@pytest.mark.parametrize(("count", "visits"), [(8, 2), (7, 3), (5, 5)])
def test_turns_visit_all_slots_alike(count: int, visits: int) -> None:
    slots = slots_of(count)
    found = np.concatenate([slots.turn(visits) for _ in range(count)])
    assert np.bincount(found, minlength=count).tolist() == [visits] * count
    for slot in range(count):
        apart = np.diff(np.flatnonzero(found == slot))
        assert set(apart) == {count}


def test_empty_slots_do_not_end() -> None:
    slots = slots_of(3)
    slots.ages[:] = 99
    assert slots.ended(np.arange(3), STEPS, early=False).size == 0
    assert slots.ended(np.arange(3), STEPS, early=True).size == 0
    slots.occupied[1] = True
    assert slots.ended(np.arange(3), STEPS, early=False).tolist() == [1]


def test_a_set_that_enters_leaves_nothing_of_the_one_before() -> None:
    store, drawn = sets_of(natural_images(COUNT))
    slots, rules = slots_of(2), solver(early_stop=True)
    zeros = torch.zeros(2, 2, 4, 4).double()
    first, second = (drawn.take(torch.tensor(rows)) for rows in ([0, 1], [5, 6]))
    slots.enter(np.arange(2), first, KEYS[:2], zeros, np.zeros(2, dtype=np.int64), 0)
    for _ in range(4):
        sets = slots.drawn.sets(store, NUM_CLASSES, torch.from_numpy(slots.keys))
        state, _, _ = advance(rules, TEACHER, sets, slots.state)
        slots.visited(np.arange(2), state, early=True)
    slots.enter(np.arange(2), second, KEYS[5:7], zeros + 0.5, np.array([0, 3]), 7)
    fresh = slots_of(2)
    fresh.enter(np.arange(2), second, KEYS[5:7], zeros + 0.5, np.array([0, 3]), 7)
    for part in ("drawn", "state"):
        for name, value in vars(getattr(slots, part)).items():
            assert value.equal(vars(getattr(fresh, part))[name]), name
    assert slots.ages.tolist() == fresh.ages.tolist() == [0, 3]
    assert slots.oldest.tolist() == [7, 7]
    assert [each.tolist() for each in slots.looks(np.arange(2))] == [[1005, 1006], [0, 0]]
    assert slots.spared.tolist() == [0, 3]
    assert slots.state.num_steps.tolist() == [0, 0]  # of what a set was spared nothing was done


def test_a_set_without_a_finite_logit_ends_non_finite() -> None:
    store, drawn = sets_of(mark(natural_images(COUNT), 4))
    for early_stop in (True, False):
        slots, rules = slots_of(COUNT), solver(early_stop=early_stop)
        zeros, spared = torch.zeros(COUNT, 2, 4, 4).double(), np.zeros(COUNT, dtype=np.int64)
        slots.enter(np.arange(COUNT), drawn, KEYS, zeros, spared, 0)
        for _ in range(STEPS + 1):
            sets = slots.drawn.sets(store, NUM_CLASSES, torch.from_numpy(KEYS))
            state, _, _ = advance(rules, BlindToMarked(TEACHER), sets, slots.state)
            slots.visited(np.arange(COUNT), state, early=early_stop)
        assert slots.ended(np.arange(COUNT), STEPS + 1, early=early_stop).tolist() == list(range(COUNT))
        assert slots.state.outcomes.eq(Outcome.NON_FINITE).nonzero().flatten().tolist() == [3, 4]
        assert slots.state.best_mask_logits.isfinite().all()


def test_saved_and_loaded_goes_on_alike() -> None:
    store, drawn = sets_of(natural_images(COUNT))
    slots, rules = slots_of(5), solver(early_stop=True)
    zeros = torch.zeros(3, 2, 4, 4).double()
    slots.enter(np.arange(3), drawn.take(torch.arange(3)), KEYS[:3], zeros, np.array([0, 1, 2]), 4)
    slots.turn(3)

    def visit(which: Slots) -> None:
        sets = which.drawn.sets(store, NUM_CLASSES, torch.from_numpy(which.keys))
        state, _, _ = advance(rules, TEACHER, sets, which.state)
        which.visited(np.arange(5), state, early=True)

    visit(slots)
    other = Slots.from_tensors({name: value.clone() for name, value in slots.tensors().items()}, CPU)
    for which in (slots, other):
        visit(which)
        which.turn(4)
    assert slots.next == other.next == 2
    for name in ("ages", "keys", "oldest", "occupied"):
        assert getattr(slots, name).tolist() == getattr(other, name).tolist()
    assert slots.ended(np.arange(5), 99, early=True).tolist() == other.ended(np.arange(5), 99, early=True).tolist()
    for part in ("drawn", "state"):
        for name, value in vars(getattr(slots, part)).items():
            assert value.equal(vars(getattr(other, part))[name]), name
