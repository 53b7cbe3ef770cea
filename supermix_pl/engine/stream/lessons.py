"""The stream of a mixer that solves: a step visits sets, shows what it visited, and fills the batch with replays."""

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from supermix_pl.engine.stream.images import image_bytes
from supermix_pl.engine.stream.plan import plan_for_store
from supermix_pl.engine.stream.settings import Settings
from supermix_pl.engine.stream.slots import Slots
from supermix_pl.engine.stream.solving import Shown, Solving, expected_rounds, set_bytes
from supermix_pl.engine.stream.state import StreamState
from supermix_pl.engine.stream.step import REPLAYS, VISITS, Step
from supermix_pl.mixing import MixedBatch, SuperMix
from supermix_pl.mixing.natural import count_classes
from supermix_pl.mixing.presenting import label
from supermix_pl.solver.criterion import soft_targets
from supermix_pl.solver.rows import concatenate, to_device
from supermix_pl.teacher.frozen import FrozenTeacher

_TURNS_OF_SLOTS = 4  # sets that should have ended before uses are judged, in fillings of all slots


def mix_solved(
    state: StreamState, settings: Settings, mixer: SuperMix, teacher: FrozenTeacher, step: Step
) -> MixedBatch:
    """Visit sets, and fill the batch with replays."""
    count, view, reuse = step.count, step.view, settings.reuse_now(state.reuse)
    solving_view, taken_in = mixer.solving_view(view, step.pixels), False
    lessons = solving_view is view or solving_view == view
    if state.solving is None:
        state.solving, taken_in = _start(state, settings, mixer, teacher, step, lessons=lessons)
    solving = state.solving
    before = solving.ended, solving.start_passes
    state.due_visits += solving.due_visits(count, reuse)
    if not solving.has_sets():  # there must be something to show
        state.due_visits = max(state.due_visits, solving.plan.visits)
    visits: list[Shown] = []
    ages: list[np.ndarray] = []
    viewer = step.viewer(solving_view, VISITS)
    while state.due_visits >= solving.plan.visits:
        state.due_visits -= solving.plan.visits
        with solving.visit_times.measure(solving.plan.visits):
            visited, age = solving.turn(teacher, viewer, step.rng)
        visits.append(visited)
        ages.append(age)
    parts = _to_student(visits, ages, min(solving.plan.shown * len(visits), count) if lessons else 0)
    left = count - sum(len(part.logits) for part in parts)
    if left:
        with solving.label_times.measure(left):
            parts.append(solving.replay(teacher, left, step.viewer(view, REPLAYS), state.step, step.rng))
    shown = concatenate(parts)
    state.note_sources(shown.places)
    if not taken_in and settings.sources is None:
        _take_in(state, mixer, teacher, step, reuse, solving.plan.window)
    solving.shown += count
    passed = len(visits) * solving.plan.visits + solving.start_passes - before[1]
    _tell_of_uses(state, solving, reuse)
    state.metrics = {
        "fresh": float(solving.ended - before[0]),
        "uses": solving.shown / solving.ended if solving.ended else 0.0,
        "stored": float(solving.alive().sum()),
        "store_bytes": float(solving.images.ring.num_bytes + solving.store.num_bytes),
    }
    mix = MixedBatch(
        images=shown.images,
        masks=shown.masks,
        soft_targets=soft_targets(shown.classes, shown.mix_weights, shown.logits.shape[1]),
        teacher_logits=shown.logits,
        source_indices=torch.full_like(shown.classes, -1),
        source_classes=shown.classes,
        mix_weights=shown.mix_weights,
        outcomes=shown.outcomes,
        num_steps=shown.num_steps,
        teacher_forwards=passed,
        teacher_backwards=passed,
    )
    return label(mix, shown.logits, shown.features, viewed=view is not None, forwards=left)


def _start(
    state: StreamState, settings: Settings, mixer: SuperMix, teacher: FrozenTeacher, step: Step, *, lessons: bool
) -> tuple[Solving, bool]:
    """Open the stores; return slots and store, and whether the batch was taken in, as it is where they are empty."""
    pixels = step.pixels
    state.batch_size = state.batch_size or step.count
    rounds, grid = expected_rounds(mixer), mixer.grid_for(pixels)
    plan, room = plan_for_store(
        settings.store_bytes,
        image_bytes(pixels),
        set_bytes(mixer, grid),
        settings.reuse_now(state.reuse),
        state.batch_size,
        rounds,
        settings.first_shown(rounds),
        settings.slots,
        None if settings.sources is None else len(settings.sources),
    )
    sizes = [*pixels.shape[1:], pixels.element_size(), plan.slots, mixer.k, *grid, room.images, room.sets]
    # Where nothing was loaded, the classes of the first images tell n without a pass of its own
    n = 0 if state.loaded is None else count_classes(teacher, pixels).num_classes
    loaded = state.open(room.images, pixels.device, [*sizes, n])
    empty = state.is_empty
    if empty:
        state.fill(mixer, teacher, step, settings.sources, step.logits)
    n = count_classes(teacher, pixels).num_classes
    state.sizes = [*sizes, n]
    slots = Slots(plan.slots, mixer.k, grid, n, pixels.device, pixels.dtype)
    solving = Solving(mixer, plan, state.stored(), room.sets, slots, n)
    if loaded is not None:
        solving.load_tensors(loaded, pixels.device)
    shown = plan.shown if lessons else 0
    rank_zero_info(
        f"Stream engine: a step visits {plan.visits} of the {plan.slots} sets that are being solved, and shows "
        f"{state.batch_size} mixes: {shown} as they are visited, the others from the store. A set is solved in "
        f"{rounds:g} visits and shown about {plan.reuse:.1f} times. {settings.store_bytes / 2**20:.0f} MiB hold "
        f"{room.sets} solved sets, those of the last {room.sets * plan.reuse / state.batch_size:.0f} steps"
    )
    return solving, empty


def _take_in(
    state: StreamState, mixer: SuperMix, teacher: FrozenTeacher, step: Step, reuse: float, window: int
) -> None:
    """Keep as many images as sets are drawn in a step; all of them until there is a window of them."""
    count = len(step.pixels)
    state.due_images += step.count / reuse
    taken = min(int(state.due_images), count)
    state.due_images -= int(state.due_images)
    if len(state.stored().ring) < window:
        taken = count
    if taken == 0:
        return
    rows = to_device(np.sort(step.rng.choice(count, size=taken, replace=False)), step.pixels.device)
    labels, logits = (None if given is None else given[rows] for given in (step.labels, step.logits))
    state.classify(mixer, teacher, step.pixels[rows], labels, logits)


def _tell_of_uses(state: StreamState, solving: Solving, planned: float) -> None:
    """Warn once where sets are used far more or less than was planned, after the slots were filled some times."""
    if state.told_uses or solving.shown < _TURNS_OF_SLOTS * len(solving.slots) * planned:
        return
    uses, visits = (count / max(solving.ended, 1) for count in (solving.shown, solving.visited))
    if planned / 2 <= uses <= 2 * planned:
        return
    state.told_uses = True
    rank_zero_warn(
        f"Stream engine: sets are shown {uses:.1f} times on average and take {visits:.0f} visits, where reuse="
        f"{planned:.1f} was planned. Give max_steps and min_steps of the mixer a narrower range, or "
        "early_stop=False, which ends every set after max_steps."
    )


def _to_student(visits: list[Shown], ages: list[np.ndarray], count: int) -> list[Shown]:
    """Take the visits of the sets that have had most of them: their masks are the most finished."""
    if count == 0:
        return []
    visited = concatenate(visits)
    order = np.argsort(-np.concatenate(ages), kind="stable")[:count]
    return [visited.take(to_device(np.sort(order), visited.logits.device))]
