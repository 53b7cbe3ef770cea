"""How many visits, slots and replays follow from the uses of a set, the size of the store, or a budget of time."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from supermix_pl.engine.stream.plan import Plan, plan_for_reuse, plan_for_store, reuse_for_budget, shown_visits
from tests.problems import repeatable

reuses = st.floats(0.3, 200)
sizes = st.integers(1, 300)


@given(reuse=reuses, batch_size=sizes, rounds=st.integers(1, 50), show_from=st.integers(0, 60))
@repeatable
def test_visits_solve_a_set_for_every_so_many_mixes(reuse: float, batch_size: int, rounds: int, show_from: int) -> None:
    plan = plan_for_reuse(reuse, batch_size, rounds, show_from, None)
    exact = batch_size * rounds / reuse
    assert exact - 1e-6 <= plan.visits < max(exact, 0) + 1 + 1e-6
    assert plan.slots == 8 * plan.visits
    assert plan.window == 8 * batch_size
    assert 0 <= plan.shown <= min(plan.visits, batch_size)
    if show_from >= rounds:
        assert plan.shown == 0
    elif rounds - show_from <= reuse and plan.visits <= batch_size:
        assert plan.shown == pytest.approx(plan.visits * (rounds - show_from) / rounds, abs=0.51)
    # What a set is shown in its visits is not more than it is shown at all
    assert plan.shown * rounds / plan.visits <= reuse + 0.5 * rounds / plan.visits + 1e-6


def test_plans_by_hand() -> None:
    assert plan_for_reuse(12, 64, 12, 6, None) == Plan(visits=64, slots=512, shown=32, window=512, reuse=12)
    assert plan_for_reuse(24, 64, 12, 6, None) == Plan(visits=32, slots=256, shown=16, window=512, reuse=24)
    assert plan_for_reuse(2, 64, 12, 6, None).shown == 64  # two of six: the last ones
    assert plan_for_reuse(12, 64, 12, 0, None).shown == 64  # every visit, no replay
    assert plan_for_reuse(12, 64, 12, 12, None).shown == 0
    assert plan_for_reuse(400, 8, 12, 6, None).visits == 1
    assert plan_for_reuse(12, 64, 12, 6, 100).slots == 100
    assert plan_for_reuse(12, 64, 12, 6, 10).slots == 64  # no set twice in a turn
    assert shown_visits(3, 12, 6) == 3
    assert shown_visits(30, 12, 6) == 6
    assert shown_visits(30, 6, 8) == 0


@given(
    store_bytes=st.integers(2_000, 10_000_000),
    image=st.integers(50, 5000),
    own=st.integers(50, 5000),
    reuse=reuses,
    batch_size=sizes,
    slots=st.none() | st.integers(1, 500),
)
@repeatable
def test_the_store_has_room_for_its_rows_and_no_more(
    store_bytes: int, image: int, own: int, reuse: float, batch_size: int, slots: int | None
) -> None:
    try:
        plan, room = plan_for_store(store_bytes, image, own, reuse, batch_size, 12, 6, slots)
    except ValueError as error:
        closest = plan_for_reuse(reuse, batch_size, 12, 6, slots, 1)
        in_work = closest.window + closest.slots + batch_size
        least = in_work * image + batch_size * (image + own)
        assert least > store_bytes
        assert f"{least} bytes, got store_bytes={store_bytes}; raise it, or give fewer slots" in str(error)  # noqa: PT017
        return
    assert room.images * image + room.sets * own <= store_bytes
    assert (room.images + 1) * image + (room.sets + 1) * own > store_bytes
    assert room.sets >= batch_size
    in_work = plan.window + plan.slots + batch_size
    assert room.images == in_work + room.sets
    wanted = plan_for_reuse(reuse, batch_size, 12, 6, slots)
    assert plan.visits == wanted.visits
    assert plan.slots <= wanted.slots
    if plan != wanted and plan.window > batch_size:  # shrunk until half was free, and no further
        assert 2 * in_work * image <= store_bytes
        assert plan.window % batch_size == 0
        more = plan_for_reuse(reuse, batch_size, 12, 6, slots, plan.window // batch_size + 1)
        taken = (more.window + more.slots + batch_size) * image
        assert 2 * taken > store_bytes or taken + batch_size * (image + own) > store_bytes
    if slots is not None:
        assert plan.slots == max(slots, plan.visits)


@given(
    budget=st.floats(0.02, 2.0),
    batch_size=st.integers(8, 200),
    show_from=st.sampled_from([0, 3, 6, 9, 12]),
    training=st.floats(0.01, 1.0),
    per_label=st.floats(1e-5, 1e-2),
    dearer=st.floats(1.0, 6.0),
)
@repeatable
def test_a_budget_is_what_solving_takes_beyond_one_label_a_mix(
    budget: float, batch_size: int, show_from: int, training: float, per_label: float, dearer: float
) -> None:
    rounds, per_visit = 12.0, dearer * per_label
    reuse = reuse_for_budget(
        budget, batch_size, rounds, show_from, training=training, per_visit=per_visit, per_label=per_label
    )
    visits = batch_size * rounds / reuse
    shown = min(visits * max(rounds - show_from, 0) / rounds, batch_size)
    spent = visits * per_visit + (batch_size - shown) * per_label
    beyond = spent - batch_size * per_label
    assume(per_visit - per_label * (rounds - show_from) / rounds >= 0.1 * per_visit)  # else solving is nearly free
    assert beyond == pytest.approx(budget * training, rel=1e-6)


def test_a_larger_budget_solves_more_sets() -> None:
    times = {"training": 0.2, "per_visit": 0.002, "per_label": 0.001}
    reuses = [reuse_for_budget(budget, 64, 12, 6, **times) for budget in (0.05, 0.1, 0.25, 0.5, 1.0, 4.0)]
    assert reuses == sorted(reuses, reverse=True)
    assert reuses[0] / reuses[1] == pytest.approx(2)


def test_a_budget_for_nothing_still_solves_a_little() -> None:
    reuse = reuse_for_budget(1e-12, 64, 12, 6, training=1e-3, per_visit=1.0, per_label=0.5)
    assert reuse == pytest.approx(64 * 12 / 1e-3)
    assert plan_for_reuse(reuse, 64, 12, 6, None).visits == 1
