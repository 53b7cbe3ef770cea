"""The stream engine: every pass of the teacher is a lesson, at a constant cost a step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.utils.data import Dataset

from supermix_pl.arguments import check_at_least, check_positive, check_transform, shortest
from supermix_pl.engine.base import Engine, Run
from supermix_pl.engine.stream.images import check_room, check_shape, image_bytes, read_sources
from supermix_pl.engine.stream.plan import Plan, plan_for_store, reuse_for_budget
from supermix_pl.engine.stream.slots import Slots
from supermix_pl.engine.stream.solving import Shown, Solving, expected_rounds, set_bytes
from supermix_pl.engine.stream.state import ACCOUNTS, StreamState
from supermix_pl.mixing import Chosen, DirectMixer, MixedBatch, Mixer, Seed, SuperMix
from supermix_pl.mixing.blind import judge
from supermix_pl.mixing.checks import check_images, check_rows, fit_k, generator, numbers
from supermix_pl.mixing.natural import count_classes, float_autograd
from supermix_pl.mixing.presenting import label, like_batch
from supermix_pl.mixing.sampling import draw_keys
from supermix_pl.mixing.views import Transform, Viewer
from supermix_pl.solver.criterion import soft_targets
from supermix_pl.solver.rows import concatenate, to_device
from supermix_pl.teacher.frozen import FrozenTeacher, as_teacher
from supermix_pl.teacher.passes import show
from supermix_pl.transforms import RandomCropFlip

_CROP_AND_FLIP = RandomCropFlip()
_DEFAULT_REUSE = 12.0
_STEPS_TO_TIME = 10
_TURNS_OF_SLOTS = 4  # sets that should have ended before uses are judged, in fillings of all slots
_MOST_CANDIDATES = 512  # images that the sets of one step are drawn from, of mixers that solve nothing
_SHOWN_AT_MOST = 4  # sets of a picture
_CHANCE, _VISITS, _REPLAYS = 1, 2, 3  # of a batch's stream of chance: draws, foreign views of visits and of replays


@dataclass(frozen=True, kw_only=True)
class _Step:
    """A training step: a natural batch, and the mixes that are asked for beside it; see `Engine.mix`."""

    images: Float[Tensor, "b c h w"]
    pixels: Float[Tensor, "b c h w"]  # the images in float32 at least
    labels: Int[Tensor, " b"] | None
    logits: Float[Tensor, "b n"] | None
    view: Transform | None
    count: int  # mixes to return, >= 1
    seed: Sequence[int]
    rng: np.random.Generator  # where the draws of the step come from

    def viewer(self, transform: Transform | None, purpose: int) -> Viewer:
        """Show images under a transform; the purpose names its stream of chance."""
        return Viewer(transform, (*self.seed, purpose), self.images.dtype)


class StreamEngine(Engine):
    """Solve sets a little in every step, at a constant cost, and show each set many times.

    Slots hold sets of all ages. A *visit* is one pass of the teacher over a fresh view of a set's mix. Its gradient
    moves the masks one step. The student may be shown the same view, with the logits of exactly that pass. A set that
    has had all its visits goes to a store. *Replays* show the sets of the store again over the rest of the training: a
    fresh view, one forward pass, the logits of that view. Sources are earlier natural images, never those of the batch
    beside the mixes, kept once each in 8 bits.

    MixUp, CutMix and other mixers without a solver take fresh sources and weights in every step; `reuse`, `budget` and
    `slots` do not act on them.

    Deviation: the paper solves a fixed data set of mixes beforehand and uses each mix 60 times.

    Args:
        reuse: Views of a set that the student sees on average, > 0; one set is solved for every `reuse` shown mixes. 12
            if you give neither this nor `budget`; give at most one of the two.
        budget: Time that solving may add, as a share of a training step, > 0, beyond one labelling pass a shown mix.
            The engine measures the first steps on rank 0 and chooses `reuse`; a checkpoint keeps the choice.
        slots: Sets that are being solved, >= 1. None is eight times the visits of a step, so that two visits of a set
            are eight steps apart; fewer if their images would take more than half of the store.
        show_from: The first visit of a set that the student sees, counted from 0; replays fill the batch. None shows
            the second half of the visits.
        store_bytes: Bound of the memory for images and solved sets on the device, in bytes, >= 1. It is allocated as it
            fills. It decides how long sets live: when it is full, the oldest leave.
        sources: Images to mix instead of those of earlier batches, normalised as those are: a tensor (n, c, h, w),
            or a data set whose items are images or begin with one, which is read at once. All of them are kept in the
            store. With few training images give these, as they are without augmentation: mixes are cropped and flipped
            where they are shown. Their classes are the teacher's.
        default_transform: The view of the mixes if the callback has no `mixed_transform`; None for the mixes as they
            are.

    Raises:
        ValueError: If an argument is out of its range, or `reuse` and `budget` are both given.
        TypeError: If default_transform cannot be called, or sources are no floating point images.
    """

    takes_natural_logits = True  # the classes of the sources are known then
    solves_now = False  # there are sets of all ages

    def __init__(
        self,
        *,
        reuse: float | None = None,
        budget: float | None = None,
        slots: int | None = None,
        show_from: int | None = None,
        store_bytes: int = 2**28,
        sources: Tensor | Dataset | None = None,
        default_transform: Transform | None = _CROP_AND_FLIP,
    ) -> None:
        if reuse is not None and budget is not None:
            raise ValueError(f"expected at most one of reuse and budget, got {reuse} and {budget}")
        for name, share in (("reuse", reuse), ("budget", budget)):
            if share is not None:
                check_positive(name, share)
        if slots is not None:
            check_at_least("slots", slots, 1)
        if show_from is not None:
            check_at_least("show_from", show_from, 0)
        check_at_least("store_bytes", store_bytes, 1)
        if default_transform is not None:
            check_transform("default_transform", default_transform)
        self.reuse, self.budget, self.slots, self.show_from = reuse, budget, slots, show_from
        self.store_bytes = store_bytes
        self.sources = None if sources is None else read_sources(sources, store_bytes)
        self.default_transform = default_transform
        self._mixer = ""
        self._run = Run()
        self._state = StreamState()

    def __repr__(self) -> str:
        view = self.default_transform
        return f"StreamEngine({self._settings()}{'' if view == _CROP_AND_FLIP else f', default_transform={view!r}'})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to a run: copies begin anew."""
        return vars(self) | {"_run": Run(), "_state": StreamState()}

    @property
    def steps(self) -> int:
        """Batches that were mixed so far."""
        return self._state.step if self._state.saved is None else self._state.saved["step"]

    @property
    def plan(self) -> Plan | None:
        """The size of the stream; None before its first step, and for mixers that solve nothing."""
        return None if self._state.solving is None else self._state.solving.plan

    def check(self, mixer: Mixer) -> None:
        """Refuse a mixer whose work cannot be spread over steps."""
        if not mixer.streams:
            raise TypeError(
                f"expected SuperMix, MixUp, CutMix or another mixer of ours for the stream engine, got {mixer!r}, "
                'whose work it cannot spread over steps; choose engine="batch"'
            )
        if self.sources is not None and mixer.needs_teacher and mixer.takes_labels:
            raise ValueError(
                f'expected classes="teacher" beside sources, which have no labels, got {mixer!r}; give no sources, or '
                "choose the teacher's classes"
            )
        self._mixer = repr(mixer)

    def begin(self, run: Run) -> None:
        """Start anew with a training run."""
        self._run, self._state = run, StreamState()

    def end(self) -> None:
        """Let go of the run and of images, slots and store; the accounts stay."""
        self._run, self._state = Run(), StreamState(saved=self.state_dict())

    def mix(
        self,
        mixer: Mixer,
        teacher: FrozenTeacher | nn.Module | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None,
        *,
        seed: Seed,
        view: Transform | None = None,
        natural_logits: Float[Tensor, "b n"] | None = None,
        num_mixes: int | None = None,
    ) -> MixedBatch:
        """Advance the sets in the slots, and return views of them; see `Engine.mix`."""
        self.check(mixer)
        if self._state.saved is not None:
            self._state = self._resumed(self._state.saved)
        teacher = None if teacher is None else as_teacher(teacher)
        pixels = check_images(images)
        check_rows(labels, len(images))
        step = _Step(
            images=images,
            pixels=pixels,
            labels=labels,
            logits=natural_logits,
            view=view,
            count=len(images) if num_mixes is None else num_mixes,
            seed=numbers(seed),
            rng=generator([*numbers(seed), _CHANCE]),
        )
        shape = self._state.sizes[:3]
        if shape and list(pixels.shape[1:]) != shape:
            raise ValueError(
                f"expected images of one shape for the stream engine, got {tuple(pixels.shape[1:])} after "
                f'{tuple(shape)}; choose engine="batch"'
            )
        if self._state.images is None and self.sources is not None:
            check_shape(self.sources, pixels)
        self._state.forwards = self._state.left_out = 0
        with float_autograd(images.device):
            if isinstance(mixer, DirectMixer):
                mix = self._mix_direct(mixer, teacher, step)
            else:
                assert isinstance(mixer, SuperMix)
                if teacher is None:
                    raise ValueError("expected a teacher to supervise the masks, got None")
                mix = self._mix_solved(mixer, teacher, step)
        state = self._state
        state.step += 1
        forwards = mix.teacher_forwards + state.forwards
        images = like_batch(mix.images, images)
        return replace(mix, images=images, teacher_forwards=forwards, left_out=state.left_out)

    def metrics(self) -> dict[str, float]:
        """Return solved sets of this step, views a set so far, solved sets in the store, and bytes of the store."""
        return self._state.metrics

    def to_show(self, images: Float[Tensor, "b c h w"], mix: MixedBatch) -> tuple[Float[Tensor, "m c h w"], MixedBatch]:
        """Return some mixes as the student saw them, the replays if there are any, and their sources."""
        if self._state.images is None or self._state.places is None:
            return images, mix
        rows = slice(max(0, len(mix) - _SHOWN_AT_MOST), None)
        sources = self._state.images.at(self._state.places[rows]).to(mix.images.dtype)
        count, k = sources.shape[:2]
        own = torch.arange(count * k, device=sources.device).view(count, k)
        return sources.flatten(0, 1), replace(mix.take(rows), source_indices=own)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of the step, what was asked for, and the accounts."""
        state = self._state
        return state.saved or {"asked": self._asked()} | {name: getattr(state, name) for name in ACCOUNTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the accounts; the store fills anew unless `load_tensors` follows. Another engine's state is empty."""
        self._state = StreamState(saved=state or None)  # until the first batch brings the mixer

    def tensors(self) -> dict[str, Tensor]:
        """Return images, slots and store; what was loaded, while it waits for the first batch."""
        return self._state.tensors()

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` gave; nothing, where settings, image size or classes have changed.

        Raises:
            ValueError: If it is not of a stream.
        """
        if tensors and "sizes" not in tensors:
            raise ValueError(f"expected what a stream holds, got other tensors, such as {min(tensors)!r}")
        self._state.loaded = tensors or None

    def _settings(self) -> str:
        settings = {name: getattr(self, name) for name in ("reuse", "budget", "slots", "show_from", "store_bytes")}
        given = {name: shortest(value) for name, value in settings.items() if value is not None}
        sources = {} if self.sources is None else {"sources": f"<{tuple(self.sources.shape)}>"}
        return ", ".join(f"{name}={value}" for name, value in (given | sources).items())

    def _asked(self) -> str:
        return f"{self._settings()} {self._mixer}"

    def _resumed(self, saved: dict[str, Any]) -> StreamState:
        """Go on with the accounts of a checkpoint, or this rank's own beside it, unless they are of other settings."""
        if saved["asked"] != self._asked():
            rank_zero_info(
                "Stream engine: its settings or the mixer's are others than in the checkpoint, so it begins anew with "
                "these."
            )
            return StreamState(step=saved["step"])
        return StreamState.resumed(saved, self._state.loaded)

    @torch.no_grad()
    def _mix_direct(self, mixer: DirectMixer, teacher: FrozenTeacher | None, step: _Step) -> MixedBatch:
        """Mix images of the store with fresh weights; the batch comes to the store behind."""
        state = self._state
        natural, classes = mixer.classes_of(teacher, step.pixels, step.labels, step.logits)
        state.forwards += natural.forwards
        if state.images is None:
            bytes_each = image_bytes(step.pixels)
            if self.sources is not None:
                check_room(len(self.sources), bytes_each, self.store_bytes)
            capacity = max(1, self.store_bytes // bytes_each) if self.sources is None else len(self.sources)
            state.sizes = [*step.pixels.shape[1:], step.pixels.element_size(), capacity, natural.num_classes]
            state.open(capacity, step.pixels.device, state.sizes)
        store, first = state.stored(), state.is_empty
        if first:
            self._fill(mixer, teacher, step, natural.logits)
        stored = len(store.ring)
        candidates = step.rng.choice(stored, size=min(stored, _MOST_CANDIDATES), replace=False)
        places = store.choose_sets(candidates, step.count, fit_k(mixer.k, stored), mixer.pairing, step.rng)
        state.places, of_sources = places, store.classes(places)
        own = torch.arange(places.numel(), device=places.device).view_as(places)
        chosen = Chosen(step.rng, store.at(places).flatten(0, 1), of_sources.flatten(), own, teacher)
        mix = mixer.mix(chosen, natural.num_classes)
        keys = torch.from_numpy(draw_keys(step.rng, step.count))
        shown = step.viewer(step.view, _REPLAYS)(mix.images, keys, torch.zeros_like(keys))
        if not first and self.sources is None:
            state.keep(step.pixels, classes, step.labels)
        state.metrics = {"stored": float(len(store.ring)), "store_bytes": float(store.ring.num_bytes)}
        unknown = torch.full_like(places, -1)
        mix = replace(mix, images=shown, source_indices=unknown, natural_logits=natural.logits)
        if teacher is None:
            return mix
        outputs = show(teacher, mix.images, mixer.chunk_size)
        return judge(label(mix, *outputs, viewed=step.view is not None, forwards=len(mix)))

    def _mix_solved(self, mixer: SuperMix, teacher: FrozenTeacher, step: _Step) -> MixedBatch:
        """Visit sets, and fill the batch with replays."""
        count, view = step.count, step.view
        self._replan(mixer)
        self._follow_batch_size(count)
        state, taken_in = self._state, False
        solving_view = mixer.solving_view(view, step.pixels)
        lessons = solving_view is view or solving_view == view
        if state.solving is None:
            taken_in = self._start(mixer, teacher, step, lessons=lessons)
        solving = state.solving
        assert solving is not None
        before = solving.ended, solving.start_passes
        state.due_visits += solving.due_visits(count, self._reuse_now())
        if not solving.has_sets():  # there must be something to show
            state.due_visits = max(state.due_visits, solving.plan.visits)
        visits: list[Shown] = []
        ages: list[np.ndarray] = []
        viewer = step.viewer(solving_view, _VISITS)
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
                parts.append(solving.replay(teacher, left, step.viewer(view, _REPLAYS), state.step, step.rng))
        if not taken_in and self.sources is None:
            self._take_in(mixer, teacher, step, solving.plan.window)
        shown = concatenate(parts)
        solving.shown += count
        passed = len(visits) * solving.plan.visits + solving.start_passes - before[1]
        state.places = shown.places
        self._tell_of_uses(solving)
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

    def _start(self, mixer: SuperMix, teacher: FrozenTeacher, step: _Step, *, lessons: bool) -> bool:
        """Open the stores; return whether the first batch was taken in: where they are empty, it is all there is."""
        state, pixels = self._state, step.pixels
        state.batch_size = state.batch_size or step.count
        rounds, grid = expected_rounds(mixer), mixer.grid_for(pixels)
        plan, room = plan_for_store(
            self.store_bytes,
            image_bytes(pixels),
            set_bytes(mixer, grid),
            self._reuse_now(),
            state.batch_size,
            rounds,
            self._first_shown(rounds),
            self.slots,
            None if self.sources is None else len(self.sources),
        )
        sizes = [*pixels.shape[1:], pixels.element_size(), plan.slots, mixer.k, *grid, room.images, room.sets]
        # Where nothing was loaded, the classes of the first images tell n without a pass of its own
        n = 0 if state.loaded is None else count_classes(teacher, pixels).num_classes
        loaded = state.open(room.images, pixels.device, [*sizes, n])
        empty = state.is_empty
        if empty:
            self._fill(mixer, teacher, step, step.logits)
        n = count_classes(teacher, pixels).num_classes
        state.sizes = [*sizes, n]
        slots = Slots(plan.slots, mixer.k, grid, n, pixels.device, pixels.dtype)
        state.solving = Solving(mixer, plan, state.stored(), room.sets, slots, n)
        if loaded is not None:
            state.solving.load_tensors(loaded, pixels.device)
        shown = plan.shown if lessons else 0
        rank_zero_info(
            f"Stream engine: a step visits {plan.visits} of the {plan.slots} sets that are being solved, and shows "
            f"{state.batch_size} mixes: {shown} as they are visited, the others from the store. A set is solved in "
            f"{rounds:g} visits and shown about {plan.reuse:.1f} times. {self.store_bytes / 2**20:.0f} MiB hold "
            f"{room.sets} solved sets, those of the last {room.sets * plan.reuse / state.batch_size:.0f} steps"
        )
        return empty

    def _take_in(self, mixer: SuperMix, teacher: FrozenTeacher, step: _Step, window: int) -> None:
        """Keep as many images as sets are drawn in a step; all of them until there is a window of them."""
        state, count = self._state, len(step.pixels)
        state.due_images += step.count / self._reuse_now()
        taken = min(int(state.due_images), count)
        state.due_images -= int(state.due_images)
        if len(state.stored().ring) < window:
            taken = count
        if taken == 0:
            return
        rows = to_device(np.sort(step.rng.choice(count, size=taken, replace=False)), step.pixels.device)
        labels, logits = (None if given is None else given[rows] for given in (step.labels, step.logits))
        self._keep(mixer, teacher, step.pixels[rows], labels, logits)

    def _keep(
        self,
        mixer: SuperMix | DirectMixer,
        teacher: FrozenTeacher | None,
        images: Tensor,
        labels: Tensor | None,
        logits: Tensor | None,
    ) -> None:
        """Store images; the teacher sees those whose classes are to be known."""
        natural, classes = mixer.classes_of(teacher, images, labels, logits)
        self._state.forwards += natural.forwards
        self._state.keep(images, classes, labels)

    def _fill(
        self, mixer: SuperMix | DirectMixer, teacher: FrozenTeacher | None, step: _Step, logits: Tensor | None
    ) -> None:
        """Store the given sources, as many at once as a batch has, or else the first batch."""
        if self.sources is None:
            self._keep(mixer, teacher, step.pixels, step.labels, logits)
            return
        for part in self.sources.split(len(step.pixels)):
            self._keep(mixer, teacher, check_images(part.to(step.pixels)), None, None)

    def _replan(self, mixer: SuperMix) -> None:
        """Find, once, the uses of a set that a budget allows on rank 0, and begin anew with them."""
        state, budget = self._state, self.budget
        if budget is None or state.solving is None or state.reuse is not None or state.step % _STEPS_TO_TIME:
            return
        reuse, solving = None, state.solving
        training, per_visit = self._run.training_seconds(), solving.visit_times.per_row()
        if training is not None and per_visit is not None:
            rounds = expected_rounds(mixer)
            reuse = reuse_for_budget(
                budget,
                state.batch_size,
                rounds,
                self._first_shown(rounds),
                training=training,
                per_visit=per_visit,
                per_label=solving.label_times.per_row() or per_visit / 2,
            )
        reuse = self._run.broadcast(reuse)
        if reuse is not None:
            self._state = StreamState(step=state.step, batch_size=state.batch_size, reuse=reuse)

    def _first_shown(self, rounds: float) -> int:
        """Return the first visit of a set that the student sees."""
        return math.ceil(rounds / 2) if self.show_from is None else self.show_from

    def _follow_batch_size(self, count: int) -> None:
        """Plan anew where the first two batches of a resumed run have another size: one may be the last of an epoch."""
        state = self._state
        if state.batch_sizes is None:
            return
        state.batch_sizes.append(count)
        if len(state.batch_sizes) < 2:
            return
        first, state.batch_sizes = state.batch_sizes[0], None
        if first == count != state.batch_size:
            rank_zero_info(
                f"Stream engine: batches have {count} mixes, {state.batch_size} in the checkpoint, so it begins anew."
            )
            self._state = StreamState(step=state.step, batch_size=count, reuse=state.reuse)

    def _tell_of_uses(self, solving: Solving) -> None:
        """Warn once where sets are used far more or less than was planned, after the slots were filled some times."""
        planned = self._reuse_now()
        if self._state.told_uses or solving.shown < _TURNS_OF_SLOTS * len(solving.slots) * planned:
            return
        uses, visits = (count / max(solving.ended, 1) for count in (solving.shown, solving.visited))
        if planned / 2 <= uses <= 2 * planned:
            return
        self._state.told_uses = True
        rank_zero_warn(
            f"Stream engine: sets are shown {uses:.1f} times on average and take {visits:.0f} visits, where reuse="
            f"{planned:.1f} was planned. Give max_steps and min_steps of the mixer a narrower range, or "
            "early_stop=False, which ends every set after max_steps."
        )

    def _reuse_now(self) -> float:
        return self._state.reuse or self.reuse or _DEFAULT_REUSE


def _to_student(visits: list[Shown], ages: list[np.ndarray], count: int) -> list[Shown]:
    """Take the visits of the sets that have had most of them: their masks are the most finished."""
    if count == 0:
        return []
    visited = concatenate(visits)
    order = np.argsort(-np.concatenate(ages), kind="stable")[:count]
    return [visited.take(to_device(np.sort(order), visited.logits.device))]
