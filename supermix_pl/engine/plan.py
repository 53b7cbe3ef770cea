"""How many slots and rounds a stream needs: from the demand for mixes, or from measured times and a budget."""

import math
from dataclasses import dataclass, replace

_MOST_SLOTS_AN_IMAGE = 2
_KEPT_FREE = 0.2
_ROUNDING = 1e-9
_MOST_LAUNCHING = 0.2  # of the time for solving
_LEAST_SOLVING = 0.5  # of a budget that drawing alone exceeds


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of a stream.

    Attributes:
        slots: S, sets that are solved at the same time.
        rounds: R, rounds that each of them gets in a turn.
        tests: Mean number of rounds until a set ends.
        reuse: Times that a mix will be used on average.
        share: Time that the mixing will take, as a share of a training step without it; None if not measured.
        every_n_steps: Training steps from one turn to the next.
    """

    slots: int
    rounds: int
    tests: float
    reuse: float
    share: float | None = None
    every_n_steps: int = 1

    @property
    def ending(self) -> float:
        """Sets that end in a turn."""
        return ending_sets(self.slots, self.rounds, self.tests)

    @property
    def fresh(self) -> float:
        """Sets that end in a training step."""
        return self.ending / self.every_n_steps


@dataclass(frozen=True, kw_only=True)
class Times:
    """What a stream's parts take, in seconds.

    Attributes:
        training: A training step without mixing.
        draw: Drawing a batch from the pool, in every step.
        exchange: Letting sets out and in, however many: on a GPU, launching it.
        per_set: Letting one more set out and in, with the teacher's look at its sources.
        round: A round, of however many slots: on a GPU, launching it.
        per_slot: A round of one more slot.
    """

    training: float
    draw: float
    exchange: float
    per_set: float
    round: float
    per_slot: float

    def seconds(self, plan: "Plan") -> float:
        """Estimate what a step of the stream takes, on average."""
        constant, per_slot = self.of_turn(plan.rounds, plan.tests)
        return self.draw + (constant + per_slot * plan.slots) / plan.every_n_steps

    def of_turn(self, rounds: int, tests: float) -> tuple[float, float]:
        """Give what a turn of some rounds takes whatever the number of slots, and what each slot adds."""
        per_slot = rounds * self.per_slot + self.per_set * ending_sets(1, rounds, tests)
        return self.exchange + rounds * self.round, per_slot


def ending_sets(slots: int, rounds: int, tests: float) -> float:
    """Count the sets that end in a turn: one that ends waits for the last of its rounds."""
    return slots * rounds / (tests + (rounds - 1) / 2)


def plan_for_reuse(
    reuse: float, batch_size: int, tests: float, rounds: int | None, every_n_steps: int | None, *, launching: bool
) -> Plan:
    """Meet the demand: each step uses `batch_size` mixes, each mix is to be used `reuse` times.

    Args:
        reuse: Times that a mix is to be used, > 0.
        batch_size: Mixes that a step uses.
        tests: Mean number of rounds until a set ends.
        rounds: Of a turn; None for 1, or as few as suffice for two slots an image.
        every_n_steps: From turn to turn, with as many slots as that takes; None for 1 or, where launching counts, for
            as many as two slots an image allow.
        launching: Whether a round of few sets takes about as long as one of many, as on a GPU.
    """
    fresh, most_slots = batch_size / reuse, _MOST_SLOTS_AN_IMAGE * batch_size
    if every_n_steps is not None:
        rounds = rounds or 1
    elif launching and rounds in (None, 1):
        every_n_steps = max(1, math.floor(most_slots / (fresh * tests)))
        rounds = rounds or (None if every_n_steps == 1 else 1)
    every_n_steps = every_n_steps or 1
    ending = fresh * every_n_steps
    if rounds is None:
        rounds = max(1, min(math.ceil(ending * tests / most_slots - _ROUNDING), math.floor(tests / 2)))
    slots = max(1, math.ceil(ending / ending_sets(1, rounds, tests) - _ROUNDING))
    return plan_of(slots, rounds, batch_size, tests, every_n_steps=every_n_steps)


def plan_for_budget(
    budget: float, batch_size: int, tests: float, times: Times, rounds: int | None, every_n_steps: int | None
) -> Plan:
    """Spend at most a share of a training step, of which a fifth is kept free, on two slots an image at most.

    Training itself takes longer after mixing: caches are cold, memory is given back and taken anew. Where launching
    takes much of the time, turns become rarer and larger, as far as the slots allow; where drawing alone takes more
    than the budget, half of it goes into solving all the same.

    Args:
        budget: The share.
        batch_size: Mixes that a step uses.
        tests: Mean number of rounds until a set ends.
        times: As measured.
        rounds: Of a turn; None for as few as make use of the budget.
        every_n_steps: From turn to turn; None for as few as make good use of the budget.
    """
    allowed = budget * (1 - _KEPT_FREE) * times.training
    a_step = max(allowed - times.draw, _LEAST_SOLVING * allowed)  # for solving
    most_slots = _MOST_SLOTS_AN_IMAGE * batch_size

    if every_n_steps is None:
        launch, slot = times.of_turn(rounds or 1, tests)
        thrifty, full = launch / (_MOST_LAUNCHING * a_step), (launch + slot * most_slots) / a_step
        every_n_steps = max(1, math.ceil(min(thrifty, full)))
    most_rounds = rounds or max(1, math.floor(tests / 2))  # with more, sets would mostly wait for the end of the turn
    best = 1, rounds or 1
    for number in range(rounds or 1, most_rounds + 1):
        launch, slot = times.of_turn(number, tests)
        slots = min(math.floor((a_step * every_n_steps - launch) / slot), most_slots)
        if ending_sets(slots, number, tests) > ending_sets(*best, tests):
            best = slots, number
    return plan_of(*best, batch_size, tests, times, every_n_steps=every_n_steps)


def plan_of(
    slots: int, rounds: int, batch_size: int, tests: float, times: Times | None = None, *, every_n_steps: int = 1
) -> Plan:
    """Say what follows from slots, rounds and turns."""
    reuse = batch_size * every_n_steps / ending_sets(slots, rounds, tests)
    plan = Plan(slots=slots, rounds=rounds, tests=tests, reuse=reuse, every_n_steps=every_n_steps)
    return plan if times is None else replace(plan, share=times.seconds(plan) / times.training)
