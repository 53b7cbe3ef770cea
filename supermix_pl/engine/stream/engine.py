"""The stream engine: every pass of the teacher is a lesson, at a constant cost a step."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from supermix_pl.arguments import check_at_least, check_positive, check_transform
from supermix_pl.engine.base import Engine, Run
from supermix_pl.engine.stream.blind import mix_stored
from supermix_pl.engine.stream.images import (
    ImageStore,
    check_room,
    check_shape,
    check_sources,
    image_bytes,
    images_fit,
)
from supermix_pl.engine.stream.plan import Plan, plan_for_store, reuse_for_budget
from supermix_pl.engine.stream.slots import Slots
from supermix_pl.engine.stream.solving import Shown, Solving, expected_rounds, same_shapes, set_bytes
from supermix_pl.engine.stream.step import Step
from supermix_pl.engine.stream.timing import PassTimes
from supermix_pl.mixing import DirectMixer, MixedBatch, Mixer, Seed, SuperMix
from supermix_pl.mixing.blind import classes_of, judge
from supermix_pl.mixing.checks import check_images, fit_k, generator
from supermix_pl.mixing.natural import NaturalPass, check_seen, float_autograd
from supermix_pl.mixing.presenting import label, like_batch, numbers
from supermix_pl.mixing.views import Transform
from supermix_pl.solver.masks import normalized_masks
from supermix_pl.solver.rows import concatenate
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.teacher.passes import show
from supermix_pl.transforms import RandomCropFlip

_CROP_AND_FLIP = RandomCropFlip()
_DEFAULT_REUSE = 12.0
_STEPS_TO_TIME = 10
_TURNS_OF_SLOTS = 4  # sets that should have ended before uses are judged, in fillings of all slots
_SHOWN_AT_MOST = 4  # sets of a picture
_CHANCE, _VISITS, _REPLAYS = 1, 2, 3  # of a batch's stream of chance: draws, foreign views of visits and of replays


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
        sources: Images (n, c, h, w), normalised as the batches are, to mix instead of those of earlier batches; all of
            them are kept in the store. With few training images give these, as they are without augmentation: mixes are
            cropped and flipped where they are shown. Their classes are the teacher's.
        default_transform: The view of the mixes if the callback has no `mixed_transform`; None for the mixes as they
            are.

    Raises:
        ValueError: If an argument is out of its range, or `reuse` and `budget` are both given.
        TypeError: If default_transform cannot be called, or sources are no floating point tensor.
    """

    def __init__(
        self,
        *,
        reuse: float | None = None,
        budget: float | None = None,
        slots: int | None = None,
        show_from: int | None = None,
        store_bytes: int = 2**28,
        sources: Tensor | None = None,
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
        if sources is not None:
            check_sources(sources)
        if default_transform is not None:
            check_transform("default_transform", default_transform)
        self.reuse, self.budget, self.slots, self.show_from = reuse, budget, slots, show_from
        self.store_bytes = store_bytes
        self.sources = sources
        self._default_transform = default_transform
        self._mixer = ""
        self._run = Run()
        self._forget()

    def __repr__(self) -> str:
        """Name the settings."""
        settings = {"reuse": self.reuse, "budget": self.budget, "slots": self.slots, "show_from": self.show_from}
        given = [f"{name}={value}" for name, value in settings.items() if value is not None]
        given.append(f"store_bytes={self.store_bytes}")
        if self.sources is not None:
            given.append(f"sources=<{tuple(self.sources.shape)}>")
        if self._default_transform != _CROP_AND_FLIP:
            given.append(f"default_transform={self._default_transform!r}")
        return f"StreamEngine({', '.join(given)})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to a run: copies begin anew."""
        fresh = type(self)(
            reuse=self.reuse,
            budget=self.budget,
            slots=self.slots,
            show_from=self.show_from,
            store_bytes=self.store_bytes,
            sources=self.sources,
            default_transform=self._default_transform,
        )
        fresh._mixer = self._mixer
        return vars(fresh)

    @property
    def default_transform(self) -> Transform | None:
        """What the student sees mixes under where the user names no transform."""
        return self._default_transform

    @property
    def takes_natural_logits(self) -> bool:
        """Whether logits of the natural images spare it passes: the classes of the sources are known then."""
        return True

    @property
    def solves_now(self) -> bool:
        """Whether the sets of a batch have been solved to their end when it is shown: there are sets of all ages."""
        return False

    @property
    def steps(self) -> int:
        """Batches that were mixed so far."""
        return self._step

    @property
    def plan(self) -> Plan | None:
        """The size of the stream; None before its first step, and for mixers that solve nothing."""
        return None if self._solving is None else self._solving.plan

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
        self._run = run
        self._forget()

    def end(self) -> None:
        """Let go of the run and of images, slots and store; the accounts stay."""
        state = self.state_dict()
        self._run = Run()
        self._forget()
        self.load_state_dict(state)

    def mix(
        self,
        mixer: Mixer,
        teacher: FrozenTeacher | None,
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
        if self._uncompared is not None:
            loaded = self._loaded
            self.load_state_dict(self._uncompared)
            self._loaded = None if self._anew else loaded
        pixels = check_images(images)
        step = Step(
            images=images,
            pixels=pixels,
            labels=labels,
            logits=natural_logits,
            view=view,
            count=len(images) if num_mixes is None else num_mixes,
            seed=numbers(seed),
            rng=generator([*numbers(seed), _CHANCE]),
        )
        if self._images is not None and pixels.shape[1:] != self._image_shape:
            raise ValueError(
                f"expected images of one shape for the stream engine, got {tuple(pixels.shape[1:])} after "
                f'{tuple(self._image_shape)}; choose engine="batch"'
            )
        if self._images is None and self.sources is not None:
            check_shape(self.sources, pixels)
        self._image_shape = pixels.shape[1:]
        self._left_out = 0
        with float_autograd(images.device):
            if isinstance(mixer, DirectMixer):
                mix = self._mix_direct(mixer, teacher, step)
            else:
                assert isinstance(mixer, SuperMix)
                if teacher is None:
                    raise ValueError("expected a teacher to supervise the masks, got None")
                mixer.check_labels_given(labels)
                mix = self._mix_solved(mixer, teacher, step)
        self._step += 1
        return mix

    def metrics(self) -> dict[str, float]:
        """Return solved sets of this step, views a set so far, solved sets in the store, and bytes of the store."""
        return self._metrics

    def to_show(self, images: Float[Tensor, "b c h w"], mix: MixedBatch) -> tuple[Float[Tensor, "m c h w"], MixedBatch]:
        """Return some mixes as the student saw them, the replays if there are any, and their sources."""
        if self._images is None or self._places is None:
            return images, mix
        rows = slice(max(0, len(mix) - _SHOWN_AT_MOST), None)
        sources = self._images.at(self._places[rows]).to(mix.images.dtype)
        count, k = sources.shape[:2]
        own = torch.arange(count * k, device=sources.device).view(count, k)
        return sources.flatten(0, 1), dataclasses.replace(mix.take(rows), source_indices=own)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of the step, what was asked for, and the accounts."""
        return self._uncompared or {
            "step": self._step,
            "asked": self._asked(),
            "reuse": self._reuse,
            "due": [self._due_visits, self._due_images],
            "batch_size": self._batch_size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the accounts; the store fills anew unless `load_tensors` follows. Another engine's state is empty."""
        self._forget()
        if not state:
            return
        self._step = state["step"]
        if not self._mixer:
            self._uncompared = state  # until the first batch brings the mixer
        elif state["asked"] != self._asked():
            rank_zero_info(
                "Stream engine: its settings or the mixer's are others than in the checkpoint, so it begins anew with "
                "these."
            )
            self._anew = True
            return
        self._reuse = state["reuse"]
        self._due_visits, self._due_images = state["due"]
        self._batch_size = state["batch_size"]
        self._sizes = []

    def tensors(self) -> dict[str, Tensor]:
        """Return images, slots and store; what was loaded, while it waits for the first batch."""
        if self._images is None or self._loaded is not None:
            return self._loaded or {}
        held = {f"images/{name}": value for name, value in self._images.ring.tensors().items()}
        return held if self._solving is None else held | self._solving.tensors()

    def load_tensors(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Take up what `tensors` gave; nothing, where settings, image size or classes have changed."""
        if not self._anew:
            self._loaded = tensors or None

    def _forget(self) -> None:
        self._step = 0
        self._anew = False
        self._uncompared: dict[str, Any] | None = None
        self._reuse: float | None = None
        self._due_visits, self._due_images = 0.0, 0.0
        self._batch_size = 0
        self._sizes: list[int] | None = None
        self._images: ImageStore | None = None
        self._solving: Solving | None = None
        self._loaded: dict[str, Tensor] | None = None
        self._image_shape = torch.Size()
        self._left_out = 0
        self._places: Int[Tensor, "b k"] | None = None
        self._metrics: dict[str, float] = {}
        self._told_uses = False
        self._visit_times: PassTimes | None = None
        self._label_times: PassTimes | None = None

    def _asked(self) -> str:
        sources = None if self.sources is None else tuple(self.sources.shape)
        settings = self.reuse, self.budget, self.slots, self.show_from, self.store_bytes, sources
        return f"{settings} {self._mixer}"

    def _mix_direct(self, mixer: DirectMixer, teacher: FrozenTeacher | None, step: Step) -> MixedBatch:
        """Mix images of the store with fresh weights; the batch comes to the store behind."""

        def look(
            images: Tensor, labels: Tensor | None = None, logits: Tensor | None = None
        ) -> tuple[NaturalPass, Int[Tensor, " r"]]:
            return classes_of(teacher, images, labels, mixer.num_classes, mixer.chunk_size, logits)

        natural, classes = look(step.pixels, step.labels, step.logits)
        check_seen(natural)
        if self._images is None:
            capacity = max(1, self.store_bytes // image_bytes(step.pixels))
            if self.sources is not None:
                capacity = check_room(self.sources, capacity)
            n = natural.num_classes
            self._drop_unless(self._loaded is None or images_fit(self._loaded, step.pixels, capacity, n))
            self._images = ImageStore.from_tensors(self._loaded, capacity, step.pixels.device)
        store, first = self._images, len(self._images.ring) == 0
        forwards = natural.forwards
        if first and self.sources is not None:
            forwards += self._keep_sources(step.pixels, look)
        elif first:
            self._keep(step.pixels, classes, step.labels)
        fit_k(mixer.k, len(store.ring))
        viewer = step.viewer(step.view, _REPLAYS)
        mix, self._places = mix_stored(mixer, teacher, store, step.count, natural.num_classes, viewer, step.rng)
        if not first and self.sources is None:
            self._keep(step.pixels, classes, step.labels)
        self._metrics = {"stored": float(len(store.ring)), "store_bytes": float(store.ring.num_bytes)}
        shown = mix.images
        mix = dataclasses.replace(
            mix,
            images=like_batch(shown, step.images),
            natural_logits=natural.logits,
            teacher_forwards=forwards + mix.teacher_forwards,
            left_out=self._left_out,
        )
        if teacher is None:
            return mix
        outputs = show(teacher, shown, mixer.chunk_size)
        return judge(label(mix, *outputs, viewed=step.view is not None, forwards=len(shown)))

    def _mix_solved(self, mixer: SuperMix, teacher: FrozenTeacher, step: Step) -> MixedBatch:
        """Visit sets, and fill the batch with replays."""
        count, view = step.count, step.view
        self._replan(mixer)
        self._follow_batch_size(count)
        forwards, taken_in = 0, False
        solving_view = mixer.solving_view(view, step.pixels)
        lessons = solving_view is view or solving_view == view
        if self._solving is None:
            forwards, taken_in = self._start(mixer, teacher, step, lessons=lessons)
        solving = self._require()
        before = solving.ended, solving.start_passes
        self._due_visits += solving.due_visits(count, self._reuse_now())
        if not solving.has_sets():  # there must be something to show
            self._due_visits = max(self._due_visits, solving.plan.visits)
        visits: list[Shown] = []
        ages: list[np.ndarray] = []
        viewer = step.viewer(solving_view, _VISITS)
        assert self._visit_times is not None
        assert self._label_times is not None
        while self._due_visits >= solving.plan.visits:
            self._due_visits -= solving.plan.visits
            with self._visit_times.measure(solving.plan.visits):
                visited, age = solving.turn(teacher, viewer, step.rng)
            visits.append(visited)
            ages.append(age)
        parts = _to_student(visits, ages, min(solving.plan.shown * len(visits), count) if lessons else 0)
        left = count - sum(len(part.logits) for part in parts)
        if left:
            with self._label_times.measure(left):
                parts.append(solving.replay(teacher, left, step.viewer(view, _REPLAYS), self._step, step.rng))
        if not taken_in and self.sources is None:
            forwards += self._take_in(mixer, teacher, step)
        shown = parts[0] if len(parts) == 1 else concatenate(parts)
        solving.shown += count
        passed = len(visits) * solving.plan.visits
        looked = solving.start_passes - before[1]
        self._places = shown.places
        self._tell_of_uses(solving)
        self._metrics = {
            "fresh": float(solving.ended - before[0]),
            "uses": solving.shown / solving.ended if solving.ended else 0.0,
            "stored": float(solving.num_alive()),
            "store_bytes": float(solving.images.ring.num_bytes + solving.store.num_bytes),
        }
        mix = MixedBatch(
            images=like_batch(shown.images, step.images),
            masks=normalized_masks(shown.mask_logits, (step.pixels.shape[2], step.pixels.shape[3])),
            soft_targets=shown.soft_targets(),
            teacher_logits=shown.logits,
            source_indices=torch.full_like(shown.classes, -1),
            source_classes=shown.classes,
            mix_weights=shown.mix_weights,
            outcomes=shown.outcomes,
            num_steps=shown.num_steps,
            natural_logits=None,
            teacher_forwards=forwards + passed + looked,
            teacher_backwards=passed + looked,
            left_out=self._left_out,
        )
        return label(mix, shown.logits, shown.features, viewed=view is not None, forwards=left)

    def _start(self, mixer: SuperMix, teacher: FrozenTeacher, step: Step, *, lessons: bool) -> tuple[int, bool]:
        """Open the stores, and take the first batch in where they are empty: it is all that there is to draw from.

        Returns:
            Images that the teacher passed, and whether the batch was taken in.
        """
        pixels, device = step.pixels, step.pixels.device
        self._batch_size = self._batch_size or step.count
        rounds = expected_rounds(mixer)
        plan, room = plan_for_store(
            self.store_bytes,
            image_bytes(pixels),
            set_bytes(mixer, mixer.grid_for(pixels)),
            self._reuse_now(),
            self._batch_size,
            rounds,
            self._first_shown(rounds),
            self.slots,
            None if self.sources is None else len(self.sources),
        )
        self._visit_times, self._label_times = PassTimes(device), PassTimes(device)

        def empty_slots() -> Slots:
            n = _num_classes(teacher, pixels)
            return Slots(plan.slots, mixer.k, mixer.grid_for(pixels), n, device, pixels.dtype)

        if self._loaded is not None:
            n = _num_classes(teacher, pixels)
            self._drop_unless(
                images_fit(self._loaded, pixels, room.images, n) and same_shapes(self._loaded, empty_slots(), room.sets)
            )
        self._images = ImageStore.from_tensors(self._loaded, room.images, device)
        forwards, empty = 0, len(self._images.ring) == 0
        if empty and self.sources is not None:
            forwards = self._keep_sources(pixels, lambda part: mixer.look(teacher, part, None, with_saliency=False))
        elif empty:
            forwards = self._look_and_keep(mixer, teacher, pixels, step.labels, step.logits)
        self._solving = Solving(mixer, plan, self._images, room.sets, empty_slots(), _num_classes(teacher, pixels))
        if self._loaded is not None:
            self._solving.load_tensors(self._loaded, device)
            self._loaded = None
        shown = plan.shown if lessons else 0
        rank_zero_info(
            f"Stream engine: {plan.visits} visits a turn to {plan.slots} slots, of which {shown} are shown to the "
            f"student; the other mixes of its {self._batch_size} are replays. A set takes {rounds:g} visits and is "
            f"shown about {plan.reuse:.1f} times; {self.store_bytes / 2**20:.0f} MiB hold {room.sets} solved sets, the "
            f"last {room.sets * plan.reuse / self._batch_size:.0f} steps"
        )
        return forwards, empty

    def _drop_unless(self, fits: bool) -> None:
        """Begin anew where what was loaded is of another run."""
        if not fits:
            self._loaded = None
            rank_zero_info(
                "Stream engine: the images, the classes or the batches are of another size than those that were saved "
                "beside the checkpoint, so its store fills anew."
            )

    def _take_in(self, mixer: SuperMix, teacher: FrozenTeacher, step: Step) -> int:
        """Keep as many images as sets are drawn in a step; all of them until there is a window of them.

        Returns:
            Images that the teacher passed, to know their classes.
        """
        solving = self._require()
        count = len(step.pixels)
        self._due_images += step.count / self._reuse_now()
        taken = min(int(self._due_images), count)
        self._due_images -= int(self._due_images)
        if len(solving.images.ring) < solving.plan.window:
            taken = count
        if taken == 0:
            return 0
        rows = torch.from_numpy(np.sort(step.rng.choice(count, size=taken, replace=False))).to(step.pixels.device)
        labels, logits = (None if given is None else given[rows] for given in (step.labels, step.logits))
        return self._look_and_keep(mixer, teacher, step.pixels[rows], labels, logits)

    def _look_and_keep(
        self, mixer: SuperMix, teacher: FrozenTeacher, images: Tensor, labels: Tensor | None, logits: Tensor | None
    ) -> int:
        """Store images of the batch, and return how many of them the teacher passed to know their classes."""
        natural, classes = mixer.look(teacher, images, labels, logits, with_saliency=False)
        check_seen(natural)
        self._keep(images, classes, labels)
        return natural.forwards

    def _keep_sources(
        self,
        pixels: Float[Tensor, "b c h w"],
        look: Callable[[Float[Tensor, "r c h w"]], tuple[NaturalPass, Int[Tensor, " r"]]],
    ) -> int:
        """Store the given sources, and return how many images the teacher passed to know their classes."""
        assert self.sources is not None
        forwards = 0
        for part in self.sources.split(len(pixels)):
            images = check_images(part.to(pixels))
            natural, classes = look(images)
            check_seen(natural)
            self._keep(images, classes, None)
            forwards += natural.forwards
        return forwards

    def _keep(
        self, images: Float[Tensor, "r c h w"], classes: Int[Tensor, " r"], labels: Int[Tensor, " b"] | None
    ) -> None:
        """Store images of known class. All are, where labels are given, and the host need not wait to know."""
        assert self._images is not None
        if labels is None and not bool((classes >= 0).all()):
            known = classes >= 0
            images, classes = images[known], classes[known]
            self._left_out += len(known) - len(images)
        if len(images):
            self._images.add(images, classes)

    def _replan(self, mixer: SuperMix) -> None:
        """Find, once, the uses of a set that a budget allows, and begin anew with them."""
        wanted = self.budget is not None and self._reuse is None and self._step > 0
        if not wanted or self._step % _STEPS_TO_TIME or self._visit_times is None or self._label_times is None:
            return
        reuse = None
        if self._run.is_first_rank:
            times = self._run.training_seconds(), self._visit_times.per_row(), self._label_times.per_row()
            if times[0] is not None and times[1] is not None:
                assert self.budget is not None
                rounds = expected_rounds(mixer)
                reuse = reuse_for_budget(
                    self.budget,
                    self._batch_size,
                    rounds,
                    self._first_shown(rounds),
                    training=times[0],
                    per_visit=times[1],
                    per_label=times[2] or times[1] / 2,
                )
        reuse = self._run.broadcast(reuse)
        if reuse is not None:
            self._begin_anew(self._batch_size, reuse)

    def _first_shown(self, rounds: float) -> int:
        """Return the first visit of a set that the student sees."""
        return math.ceil(rounds / 2) if self.show_from is None else self.show_from

    def _follow_batch_size(self, count: int) -> None:
        """Plan anew where the first two batches of a resumed run have another size: one may be the last of an epoch."""
        if self._sizes is None:
            return
        self._sizes.append(count)
        if len(self._sizes) < 2:
            return
        first, self._sizes = self._sizes[0], None
        if first == count != self._batch_size:
            rank_zero_info(
                f"Stream engine: batches have {count} mixes, {self._batch_size} in the checkpoint, so it begins anew."
            )
            self._begin_anew(count, self._reuse)

    def _begin_anew(self, batch_size: int, reuse: float | None) -> None:
        step, shape = self._step, self._image_shape
        self._forget()
        self._step, self._batch_size, self._image_shape, self._reuse = step, batch_size, shape, reuse

    def _tell_of_uses(self, solving: Solving) -> None:
        """Warn once where sets are used far more or less than was planned, after the slots were filled some times."""
        planned = self._reuse_now()
        if self._told_uses or solving.shown < _TURNS_OF_SLOTS * len(solving.slots) * planned:
            return
        uses, visits = (count / max(solving.ended, 1) for count in (solving.shown, solving.visited))
        if planned / 2 <= uses <= 2 * planned:
            return
        self._told_uses = True
        rank_zero_warn(
            f"Stream engine: sets are shown {uses:.1f} times on average and take {visits:.0f} visits, where reuse="
            f"{planned:.1f} was planned. Give max_steps and min_steps of the mixer a narrower range, or "
            "early_stop=False, which ends every set after max_steps."
        )

    def _reuse_now(self) -> float:
        return self._reuse or self.reuse or _DEFAULT_REUSE

    def _require(self) -> Solving:
        assert self._solving is not None
        return self._solving


def _num_classes(teacher: FrozenTeacher, pixels: Float[Tensor, "b c h w"]) -> int:
    """Return the teacher's n; it is shown an image where it has seen none."""
    if teacher.num_classes is None:
        teacher(pixels[:1])
    assert teacher.num_classes is not None
    return teacher.num_classes


def _to_student(visits: list[Shown], ages: list[np.ndarray], count: int) -> list[Shown]:
    """Take the visits of the sets that have had most of them: their masks are the most finished."""
    if count == 0:
        return []
    visited = visits[0] if len(visits) == 1 else concatenate(visits)
    order = np.argsort(-np.concatenate(ages), kind="stable")[:count]
    return [visited.take(torch.from_numpy(np.sort(order)).to(visited.logits.device))]
