"""How much a step of a stream solves, and how much it shows again: from the uses of a set, or from measured times."""

import math
from dataclasses import dataclass

_VISITS_APART = 8
_BATCHES_IN_WINDOW = 8
_LEAST_VISITS = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of a stream.

    Attributes:
        visits: V, sets that a turn visits: one pass of the teacher with a gradient each.
        slots: S, sets that are being solved; each is visited in every (S / V)-th turn.
        shown: Visits of a turn that the student sees.
        window: The newest images that sets are drawn from.
        reuse: Views of a set that the student sees, on average.
    """

    visits: int
    slots: int
    shown: int
    window: int
    reuse: float


def shown_visits(reuse: float, rounds: float, show_from: int) -> float:
    """Count the visits of a set that the student sees: those from `show_from` on, the last ones if they are too many."""
    return min(max(rounds - show_from, 0.0), reuse)


def plan_for_reuse(reuse: float, batch_size: int, rounds: float, show_from: int, slots: int | None) -> Plan:
    """Show each set `reuse` times: in its visits from `show_from` on, and in replays.

    Args:
        reuse: Views of a set, > 0.
        batch_size: Mixes that a step shows.
        rounds: Visits that solve a set.
        show_from: The first visit that may be shown, counted from 0; `rounds` shows none.
        slots: S; None for eight times the visits, so that those of one set are eight turns apart.
    """
    visits = max(_LEAST_VISITS, math.ceil(batch_size * rounds / reuse - 1e-9))
    slots = max(slots or _VISITS_APART * visits, visits)
    shown = round(visits * shown_visits(reuse, rounds, show_from) / rounds)
    return Plan(
        visits=visits,
        slots=slots,
        shown=min(shown, visits, batch_size),
        window=_BATCHES_IN_WINDOW * batch_size,
        reuse=reuse,
    )


def reuse_for_budget(
    budget: float,
    batch_size: int,
    rounds: float,
    show_from: int,
    *,
    training: float,
    per_visit: float,
    per_label: float,
) -> float:
    """Find the uses of a set that make solving take a share of a training step.

    A visit that is shown spares the pass that would label a replay.

    Args:
        budget: The share, beyond one labelling pass a shown mix.
        batch_size: Mixes that a step shows.
        rounds: Visits that solve a set.
        show_from: The first visit that may be shown.
        training: Seconds of a training step without mixing.
        per_visit: Seconds of a visit.
        per_label: Seconds of a labelling pass of one mix.
    """
    shown = shown_visits(math.inf, rounds, show_from) / rounds
    extra = max(per_visit - shown * per_label, 0.1 * per_visit)
    visits = budget * training / extra
    if visits * shown > batch_size:  # more visits than the batch shows
        visits = (budget * training + batch_size * per_label) / per_visit
    return batch_size * rounds / max(visits, 1e-3)
