"""How much a step of a stream solves, and how much it shows again: from the uses of a set, or from measured times."""

import math
from dataclasses import dataclass, replace

_APART = 8  # turns between two visits of a set, and batches in the window, where there is room


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of a stream."""

    visits: int  # V, sets that a turn visits: one pass of the teacher with a gradient each
    slots: int  # S, sets that are being solved; each is visited in every (S / V)-th turn
    shown: int  # visits of a turn that the student sees
    window: int  # the newest images that sets are drawn from
    reuse: float  # views of a set that the student sees, on average


def shown_visits(reuse: float, rounds: float, show_from: int) -> float:
    """Count the visits of a set that the student sees: those from `show_from` on, the last ones if too many."""
    return min(max(rounds - show_from, 0.0), reuse)


def plan_for_reuse(
    reuse: float, batch_size: int, rounds: float, show_from: int, slots: int | None, apart: int = _APART
) -> Plan:
    """Show each set `reuse` times: in its visits from `show_from` on, and in replays.

    A set takes `rounds` visits, `apart` turns from each other; a step shows `batch_size` mixes.
    """
    visits = max(1, math.ceil(batch_size * rounds / reuse - 1e-9))
    slots = max(slots or apart * visits, visits)
    shown = round(visits * shown_visits(reuse, rounds, show_from) / rounds)
    return Plan(
        visits=visits, slots=slots, shown=min(shown, visits, batch_size), window=apart * batch_size, reuse=reuse
    )


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many natural images and solved sets the store has room for."""

    images: int
    sets: int


def plan_for_store(
    store_bytes: int,
    image_bytes: int,
    set_bytes: int,
    reuse: float,
    batch_size: int,
    rounds: float,
    show_from: int,
    slots: int | None,
    sources: int | None = None,
) -> tuple[Plan, Room]:
    """Plan so that the images of sets that are being solved take half of the store at most, if that is possible.

    Args:
        store_bytes: For images and solved sets.
        image_bytes: Of an image.
        set_bytes: Of a solved set without its images; it brings one image of its own, as each is in k sets.
        reuse: Views of a set, > 0.
        batch_size: Mixes that a step shows.
        rounds: Visits that solve a set.
        show_from: The first visit that may be shown.
        slots: As asked for; None for as many as there is room for.
        sources: Images that are given once and for all; None for those of earlier batches.

    Raises:
        ValueError: If not even a batch of solved sets fits.
    """
    if sources is not None:
        plan = replace(plan_for_reuse(reuse, batch_size, rounds, show_from, slots), window=sources)
        sets = (store_bytes - sources * image_bytes) // set_bytes
        if sets < batch_size:
            raise ValueError(
                f"expected a store that holds {sources} sources and a batch of solved sets, "
                f"{sources * image_bytes + batch_size * set_bytes} bytes, got store_bytes={store_bytes}; raise it"
            )
        return plan, Room(images=sources, sets=sets)
    apart = _APART
    while True:
        plan = plan_for_reuse(reuse, batch_size, rounds, show_from, slots, apart)
        in_work = plan.window + plan.slots + batch_size
        sets = (store_bytes - in_work * image_bytes) // (image_bytes + set_bytes)
        if apart == 1 or (2 * in_work * image_bytes <= store_bytes and sets >= batch_size):
            break
        apart -= 1
    if sets < batch_size:
        least = in_work * image_bytes + batch_size * (image_bytes + set_bytes)
        raise ValueError(
            f"expected a store that holds the {in_work} images of sets that are being solved and a batch of solved "
            f"sets, {least} bytes, got store_bytes={store_bytes}; raise it, or give fewer slots or a larger reuse"
        )
    return plan, Room(images=in_work + sets, sets=sets)


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

    The share, `budget`, is what comes beyond one labelling pass a shown mix; a visit that is shown spares the pass that
    would label a replay. Times are seconds: of a training step without mixing, a visit, a labelling pass of one mix.
    """
    shown = shown_visits(math.inf, rounds, show_from) / rounds
    extra = max(per_visit - shown * per_label, 0.1 * per_visit)
    visits = budget * training / extra
    if visits * shown > batch_size:  # more visits than the batch shows
        visits = (budget * training + batch_size * per_label) / per_visit
    return batch_size * rounds / max(visits, 1e-3)
