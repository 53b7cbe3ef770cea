"""Slots and rounds from a demand or a budget."""

import pytest

from supermix_pl.engine.plan import Plan, Times, fresh_mixes, plan_for_budget, plan_for_reuse, plan_of
from supermix_pl.engine.timing import Sample, times_of


@pytest.mark.parametrize("reuse", [0.5, 1, 3, 8, 30, 500])
@pytest.mark.parametrize("tests", [1.0, 2.5, 9.0, 40.0])
@pytest.mark.parametrize("rounds", [None, 1, 3])
def test_demand_is_met_and_no_more_than_by_a_slot(reuse: float, tests: float, rounds: int | None) -> None:
    plan = plan_for_reuse(reuse, 128, tests, rounds)
    assert plan.fresh >= 128 / reuse - 1e-9
    assert plan.reuse <= reuse + 1e-9
    assert plan.slots == 1 or fresh_mixes(plan.slots - 1, plan.rounds, tests) < 128 / reuse
    assert plan.rounds == rounds or (rounds is None and plan.rounds <= max(1, tests / 2))


TIMES = Times(training=1.0, constant=0.01, per_slot=0.001, per_set=0.002)


@pytest.mark.parametrize("budget", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("rounds", [None, 1, 2])
def test_budget_is_spent_and_not_passed(budget: float, rounds: int | None) -> None:
    plan = plan_for_budget(budget, 64, 9.0, TIMES, rounds)
    assert plan.share is not None
    assert 0.75 * budget < plan.share <= 0.8 * budget
    assert plan.share == pytest.approx(TIMES.seconds(plan.slots, plan.rounds, 9.0))
    assert rounds in (None, plan.rounds)


def test_large_budgets_take_rounds_before_they_take_memory() -> None:
    small, large = (plan_for_budget(budget, 64, 9.0, TIMES, None) for budget in (0.1, 0.5))
    assert (small.rounds, large.rounds) == (1, 3)
    assert large.slots <= 128


def test_a_budget_too_small_for_anything_still_gives_a_slot() -> None:
    plan = plan_for_budget(1e-6, 64, 9.0, TIMES, None)
    assert (plan.slots, plan.rounds) == (1, 1)
    assert plan.share is not None
    assert plan.share > 0.01


def test_fresh_mixes_agree_with_a_simulation() -> None:
    """Slots that refill at the end of a step, sets that need 1 to 9 rounds."""
    for rounds in (1, 2, 3):
        remaining = [1 + slot % 9 for slot in range(90)]
        needs, ended, steps = 0, 0, 600
        for _ in range(steps):
            for slot in range(90):
                remaining[slot] -= rounds
                if remaining[slot] <= 0:
                    ended += 1
                    needs += 1
                    remaining[slot] = 1 + needs % 9
        assert ended / steps == pytest.approx(fresh_mixes(90, rounds, 5.0), rel=0.03)


def test_what_follows_from_slots() -> None:
    plan = plan_of(90, 2, 128, 4.5)
    assert plan == Plan(slots=90, rounds=2, tests=4.5, reuse=128 / 36)
    assert plan.fresh == 36


def test_times_are_medians_of_samples_of_one_size() -> None:
    samples = [
        Sample(few=4, many=16, small=0.3, large=0.9, entry=0.2, draw=0.01),
        Sample(few=1, many=5, small=9.0, large=9.0, entry=9.0, draw=9.0),
        Sample(few=4, many=16, small=0.2, large=0.8, entry=0.4, draw=0.02),
        Sample(few=4, many=16, small=7.0, large=7.0, entry=7.0, draw=7.0),
    ]
    times = times_of(samples, training=3.0)
    assert times.training == 3.0
    assert times.constant == pytest.approx(0.9 - 0.6 / 12 * 16 + 0.02)
    assert times.per_slot == pytest.approx(0.6 / 12)
    assert times.per_set == pytest.approx(0.4 / 4)
    alone = times_of([Sample(few=2, many=2, small=0.3, large=0.3, entry=0.2, draw=0.0)], training=1.0)
    assert (alone.constant, alone.per_slot) == (0.0, pytest.approx(0.15))
