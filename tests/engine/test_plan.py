"""Slots, rounds and turns from a demand or a budget."""

from dataclasses import replace

import pytest

from supermix_pl.engine.plan import Plan, Times, ending_sets, plan_for_budget, plan_for_reuse, plan_of
from supermix_pl.engine.timing import Sample, times_of


@pytest.mark.parametrize("reuse", [0.5, 1, 3, 8, 30, 500])
@pytest.mark.parametrize("tests", [1.0, 2.5, 9.0, 40.0])
@pytest.mark.parametrize("rounds", [None, 1, 3])
@pytest.mark.parametrize(("every", "launching"), [(None, False), (None, True), (1, True), (5, False)])
def test_demand_is_met_and_no_more_than_by_a_slot(
    reuse: float, tests: float, rounds: int | None, every: int | None, launching: bool
) -> None:
    plan = plan_for_reuse(reuse, 128, tests, rounds, every, launching=launching)
    assert every is None or plan.rounds == (rounds or 1)
    assert plan.fresh >= 128 / reuse - 1e-9
    assert plan.reuse <= reuse + 1e-9
    fewer = ending_sets(plan.slots - 1, plan.rounds, tests) / plan.every_n_steps
    assert plan.slots == 1 or fewer < 128 / reuse
    assert plan.rounds == rounds or (rounds is None and plan.rounds <= max(1, tests / 2))
    assert plan.every_n_steps == (every or plan.every_n_steps)


@pytest.mark.parametrize(("reuse", "tests", "every", "slots"), [(8, 5.3, 3, 255), (8, 9, 1, 144), (60, 5.3, 22, 249)])
def test_where_launching_counts_turns_are_as_rare_as_the_slots_allow(
    reuse: float, tests: float, every: int, slots: int
) -> None:
    plan = plan_for_reuse(reuse, 128, tests, None, None, launching=True)
    assert (plan.every_n_steps, plan.slots, plan.rounds) == (every, slots, 1)
    assert plan_for_reuse(reuse, 128, tests, 1, None, launching=True) == plan
    assert plan_for_reuse(reuse, 128, tests, None, None, launching=False).every_n_steps == 1
    assert plan_for_reuse(reuse, 128, tests, 2, None, launching=True).every_n_steps == 1


def test_rarer_turns_that_are_asked_for_take_more_slots_and_no_more_rounds() -> None:
    plans = [plan_for_reuse(8, 128, 5.3, None, every, launching=True) for every in (1, 3, 4, 10)]
    assert [plan.slots for plan in plans] == [85, 255, 340, 848]
    assert {plan.rounds for plan in plans} == {1}


def test_rounding_adds_no_round() -> None:
    plan = plan_for_reuse(30, 96, 5.0, None, None, launching=True)
    assert (plan.slots, plan.rounds, plan.every_n_steps) == (192, 1, 12)


TIMES = Times(training=1.0, draw=0.004, exchange=0.002, per_set=0.002, round=0.004, per_slot=0.001)
LAUNCHING = Times(training=0.010, draw=0.0004, exchange=0.005, per_set=0.00003, round=0.007, per_slot=0.00002)


@pytest.mark.parametrize("times", [TIMES, LAUNCHING])
@pytest.mark.parametrize("budget", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("rounds", [None, 1, 2])
@pytest.mark.parametrize("every", [None, 20])
def test_budget_is_spent_and_not_passed(times: Times, budget: float, rounds: int | None, every: int | None) -> None:
    plan = plan_for_budget(budget, 64, 9.0, times, rounds, every)
    assert plan.share is not None
    assert plan.share == pytest.approx(times.seconds(plan) / times.training)
    if times is LAUNCHING and budget == 0.1 and every == 20:  # one slot is more than the budget
        assert (plan.slots, plan.rounds) == (1, rounds or 1)
    else:
        assert plan.share <= 0.8 * budget
        assert plan.share > 0.72 * budget or plan.slots == 128  # two an image
    assert rounds in (None, plan.rounds)
    assert every in (None, plan.every_n_steps)


def test_large_budgets_take_rounds_before_they_take_memory() -> None:
    small, large = (plan_for_budget(budget, 64, 9.0, TIMES, None, None) for budget in (0.1, 0.5))
    assert (small.rounds, large.rounds) == (1, 3)
    assert large.slots <= 128
    assert (small.every_n_steps, large.every_n_steps) == (1, 1)


def test_where_launching_takes_most_of_the_time_turns_are_rare() -> None:
    """A budget of a quarter, of which a round of one slot alone would take five times as much."""
    plan = plan_for_budget(0.25, 128, 5.3, LAUNCHING, None, None)
    assert plan.share is not None
    assert plan.share <= 0.2
    assert plan.every_n_steps > 5
    assert plan.slots <= 256
    assert plan.reuse < 35
    often = plan_for_budget(0.25, 128, 5.3, LAUNCHING, None, 1)
    assert (often.slots, often.reuse) == (1, pytest.approx(128 * 5.3))
    assert often.share is not None
    assert often.share > 1


def test_of_a_budget_that_drawing_exceeds_half_goes_into_solving() -> None:
    plan = plan_for_budget(0.25, 128, 5.3, replace(LAUNCHING, draw=0.003), None, None)
    assert plan.share is not None
    assert 0.3 + 0.08 < plan.share <= 0.3 + 0.1
    assert plan.slots > 100


@pytest.mark.parametrize("per_slot", [1e-9, 1e-3])
def test_slots_are_bounded_whatever_the_budget(per_slot: float) -> None:
    plan = plan_for_budget(50.0, 64, 9.0, replace(TIMES, per_slot=per_slot), None, None)
    assert (plan.slots, plan.rounds, plan.every_n_steps) == (128, 4, 1)


def test_a_budget_too_small_for_anything_still_gives_a_slot() -> None:
    plan = plan_for_budget(1e-6, 64, 9.0, TIMES, None, 1)
    assert (plan.slots, plan.rounds) == (1, 1)
    assert plan.share is not None
    assert plan.share > 0.01


@pytest.mark.parametrize("every", [1, 4])
def test_fresh_mixes_agree_with_a_simulation(every: int) -> None:
    """Slots that refill at the end of a turn, sets that need 1 to 9 rounds."""
    for rounds in (1, 2, 3):
        remaining = [1 + slot % 9 for slot in range(90)]
        needs, ended, steps = 0, 0, 2400
        for step in range(steps):
            for slot in range(90):
                remaining[slot] -= rounds if step % every == 0 else 0
                if remaining[slot] <= 0:
                    ended += 1
                    needs += 1
                    remaining[slot] = 1 + needs % 9
        plan = plan_of(90, rounds, 128, 5.0, every_n_steps=every)
        assert ended / steps == pytest.approx(plan.fresh, rel=0.03)


def test_what_follows_from_slots() -> None:
    plan = plan_of(90, 2, 128, 4.5)
    assert plan == Plan(slots=90, rounds=2, tests=4.5, reuse=128 / 36)
    assert plan.fresh == 36
    rare = plan_of(90, 2, 128, 4.5, every_n_steps=3)
    assert (rare.ending, rare.fresh, rare.reuse) == (36, 12, 3 * 128 / 36)


def test_times_are_medians_of_samples_of_one_size() -> None:
    def sample(few: int, many: int, times: tuple[float, float, float, float, float]) -> Sample:
        names = ("round_of_few", "round_of_many", "exchange_of_few", "exchange_of_many", "draw")
        return Sample(few=few, many=many, **dict(zip(names, times, strict=True)))

    samples = [
        sample(4, 16, (0.3, 0.9, 0.2, 0.5, 0.01)),
        sample(1, 5, (9.0, 9.0, 9.0, 9.0, 9.0)),
        sample(4, 16, (0.2, 0.8, 0.4, 0.7, 0.02)),
        sample(4, 16, (7.0, 7.0, 7.0, 7.0, 7.0)),
    ]
    times = times_of(samples, training=3.0)
    assert (times.training, times.draw) == (3.0, 0.02)
    assert times.per_slot == pytest.approx(0.6 / 12)
    assert times.round == pytest.approx(0.9 - 0.6 / 12 * 16)
    assert times.per_set == pytest.approx(0.3 / 12)
    assert times.exchange == pytest.approx(0.7 - 0.3 / 12 * 16)
    alone = times_of([sample(2, 2, (0.3, 0.3, 0.2, 0.2, 0.0))], training=1.0)
    assert (alone.round, alone.per_slot) == (0.0, pytest.approx(0.15))
    assert (alone.exchange, alone.per_set) == (0.0, pytest.approx(0.1))
