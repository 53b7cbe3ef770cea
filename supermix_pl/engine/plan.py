"""How many slots and rounds a stream needs: from the demand for mixes, or from measured times and a budget."""

import math
from dataclasses import dataclass

_MOST_SLOTS_AN_IMAGE = 2
_KEPT_FREE = 0.2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of a stream.

    Attributes:
        slots: S, sets that are solved at the same time.
        rounds: R, rounds that each of them gets in a training step.
        tests: Mean number of rounds until a set ends.
        reuse: Times that a mix will be used on average.
        share: Time that the mixing will take, as a share of a training step without it; None if not measured.
    """

    slots: int
    rounds: int
    tests: float
    reuse: float
    share: float | None = None

    @property
    def fresh(self) -> float:
        """Sets that end in a training step."""
        return fresh_mixes(self.slots, self.rounds, self.tests)


@dataclass(frozen=True, kw_only=True)
class Times:
    """What a stream's parts take, in seconds.

    Attributes:
        training: A training step without mixing.
        constant: What each step of the stream costs whatever its size: launching a round, drawing from the pool.
        per_slot: A round of one more slot.
        per_set: What a set costs once: the teacher's look at its sources, its way in and out.
    """

    training: float
    constant: float
    per_slot: float
    per_set: float

    def seconds(self, slots: int, rounds: int, tests: float) -> float:
        """Estimate what a step of the stream takes."""
        return (
            self.constant * rounds + self.per_slot * slots * rounds + self.per_set * fresh_mixes(slots, rounds, tests)
        )


def fresh_mixes(slots: int, rounds: int, tests: float) -> float:
    """Count the sets that end in a training step: one that ends waits for the last round of its step."""
    return slots * rounds / (tests + (rounds - 1) / 2)


def plan_for_reuse(reuse: float, batch_size: int, tests: float, rounds: int | None) -> Plan:
    """Meet the demand: each step uses `batch_size` mixes, each mix is to be used `reuse` times."""
    fresh = batch_size / reuse
    if rounds is None:
        wanted = math.ceil(fresh * tests / (_MOST_SLOTS_AN_IMAGE * batch_size))
        rounds = max(1, min(wanted, math.floor(tests / 2)))
    slots = max(1, math.ceil(fresh * (tests + (rounds - 1) / 2) / rounds))
    return plan_of(slots, rounds, batch_size, tests)


def plan_for_budget(budget: float, batch_size: int, tests: float, times: Times, rounds: int | None) -> Plan:
    """Spend at most a share of a training step, of which a fifth is kept free.

    Training itself takes longer after mixing: caches are cold, memory is given back and taken anew.
    """
    available = budget * (1 - _KEPT_FREE) * times.training
    most_rounds = rounds or max(1, math.floor(tests / 2))  # with more, sets would mostly wait for the end of the step
    rounds = rounds or 1
    while True:
        an_entry = times.per_set * rounds / (tests + (rounds - 1) / 2)
        slots = math.floor((available - times.constant * rounds) / (times.per_slot * rounds + an_entry))
        if rounds == most_rounds or slots <= _MOST_SLOTS_AN_IMAGE * batch_size:
            break
        rounds += 1
    return plan_of(max(1, slots), rounds, batch_size, tests, times)


def plan_of(slots: int, rounds: int, batch_size: int, tests: float, times: Times | None = None) -> Plan:
    """Say what follows from slots and rounds."""
    share = None if times is None else times.seconds(slots, rounds, tests) / times.training
    reuse = batch_size / fresh_mixes(slots, rounds, tests)
    return Plan(slots=slots, rounds=rounds, tests=tests, reuse=reuse, share=share)
