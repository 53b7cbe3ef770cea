"""The stream of a solving mixer: visits that move masks, and replays of sets that were solved before."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.engine.stream.images import ImageStore
from supermix_pl.engine.stream.plan import Plan
from supermix_pl.engine.stream.ring import Ring, part_of
from supermix_pl.engine.stream.slots import Drawn, Slots
from supermix_pl.engine.stream.timing import PassTimes
from supermix_pl.engine.stream.visit import Visits
from supermix_pl.mixing import SuperMix
from supermix_pl.mixing.sampling import draw_keys, draw_weights
from supermix_pl.mixing.views import Viewer
from supermix_pl.solver.masks import mix_images, normalized_masks
from supermix_pl.solver.rows import concatenate, rows_at, to_device
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.teacher.passes import show

_GUESSED_ROUNDS = 10  # of a set that may end early; what sets really take is followed
_GUESSED_TURNS = 4  # turns whose sets the guess counts as much as
_STEPS_TO_CATCH_UP = 64
_MOST_PACE, _LEAST_PACE = 1.5, 0.25
_ON_HOST = ("keys", "oldest", "uses")
_LEAST_SHARE = 1e-3
_REPLAYS_APART = 2**20  # numbers of looks of one step and the next: no two looks at a set share a number


@dataclass
class SetFacts(Drawn):
    """Sets that were visited: what they are made of, how the last pass that solved each ended, and their steps."""

    outcomes: Int[Tensor, " s"]
    num_steps: Int[Tensor, " s"]


@dataclass
class Shown(SetFacts):
    """Views that the student is to see, with the teacher's logits (and features) of exactly these.

    `masks` and `num_steps` are of the mixes behind them.
    """

    images: Float[Tensor, "s c h w"]
    logits: Float[Tensor, "s n"]
    masks: Float[Tensor, "s k h w"]
    features: Float[Tensor, "s ..."] | None = None


@dataclass
class Kept(SetFacts):
    """Sets as the store has them, in columns of these names; their keys are on the host."""

    mask_logits: Float[Tensor, "s k u v"]


class Solving:
    """Slots and store of a stream.

    Args:
        mixer: How sets are made and solved.
        plan: The size of the stream.
        images: Where the sources are.
        capacity: Solved sets that are kept at most, >= 1.
        slots: Empty, as many as the plan has.
        num_classes: The teacher's n.

    Attributes:
        shown: Mixes that the student has seen so far.
        visited: Visits so far.
        ended: Sets that have left the slots so far.
        visit_times: What the teacher takes for visits.
        label_times: And for replays.
        start_passes: Images that the teacher has passed so far, forward and backward, for the start of masks.
    """

    def __init__(
        self,
        mixer: SuperMix,
        plan: Plan,
        images: ImageStore,
        capacity: int,
        slots: Slots,
        num_classes: int,
    ) -> None:
        self._mixer = mixer
        self._visits = Visits(mixer.solver)
        self.plan = plan
        self.images = images
        self.num_classes = num_classes
        self.slots = slots
        self.store = Ring(capacity)
        self._device = slots.state.running.device
        self.visit_times, self.label_times = PassTimes(self._device), PassTimes(self._device)
        self.shown, self.visited, self.ended = 0, 0, 0
        self.start_passes = 0
        self._entered = 0

    def due_visits(self, count: int, reuse: float) -> float:
        """Return how many visits the sets take that a step calls for, which shows `count` mixes.

        Where sets may end early, the visits of a set are counted as they come, those of sets in the slots too: the sets
        that have ended so far are the easy ones. Sets that are missing, or too many, are made up for slowly.
        """
        rounds, sets = expected_rounds(self._mixer), count / reuse
        if not self._mixer.early_stop:
            return rounds * sets
        guessed = _GUESSED_TURNS * self.plan.visits
        rounds = (self.visited + rounds * guessed) / (self.ended + guessed)
        pace = 1 + (self.shown / reuse - self.ended) / (_STEPS_TO_CATCH_UP * sets)
        return rounds * sets * min(max(pace, _LEAST_PACE), _MOST_PACE)

    def turn(
        self, teacher: FrozenTeacher, view: Viewer, rng: np.random.Generator
    ) -> tuple[Shown, Int[np.ndarray, " v"]]:
        """Visit the next slots: sets that have ended leave, new ones enter, and all of these get a round.

        What the teacher was shown comes back, with the age of each set in visits.
        """
        places = self.slots.turn(self.plan.visits)
        early = bool(self._mixer.early_stop)
        self.slots.occupied[places] &= self._have_images(self.slots.oldest[places])
        self._leave(self.slots.ended(places, self._mixer.max_steps + early, early=early))
        self._enter(teacher, places[~self.slots.occupied[places]], rng)
        rows = rows_at(places, self._device)
        drawn, before = self.slots.drawn.take(rows), self.slots.state.take(rows)
        keys, looks = self.slots.looks(places)
        sets = drawn.sets(self.images, self.num_classes, keys)
        state, masks, images, logits, features = self._visits(
            teacher, sets, before, view, looks, self._mixer.chunk_size
        )
        visited = Shown(
            images=images,
            logits=logits,
            masks=masks,
            places=drawn.places.clone(),  # the slots go on
            classes=drawn.classes.clone(),
            mix_weights=drawn.mix_weights.clone(),
            outcomes=state.outcomes,
            num_steps=before.num_steps.clone(),
            features=features,
        )
        ages = self.slots.ages[places].copy()
        self.slots.visited(places, state, early=early)
        self.visited += len(places)
        return visited, ages

    @torch.no_grad()
    def replay(self, teacher: FrozenTeacher, count: int, view: Viewer, step: int, rng: np.random.Generator) -> Shown:
        """Show `count` solved sets under a new view each; sets of the slots too, while these are more than those."""
        stored, in_work = np.flatnonzero(self.alive()), np.flatnonzero(self._in_slots())
        if len(stored) >= len(in_work):
            in_work = in_work[:0]
        of_stored = round(count * len(stored) / (len(stored) + len(in_work)))
        parts = [self._stored(stored, of_stored, rng), self._in_work(in_work, count - of_stored, rng)]
        kept = concatenate([part for part, _ in parts if part is not None])
        sources = self.images.at(kept.places)
        masks = normalized_masks(kept.mask_logits, (sources.shape[3], sources.shape[4]))
        looks = (step + 1) * _REPLAYS_APART + torch.arange(count)
        shown = view(mix_images(sources, masks), torch.from_numpy(np.concatenate([keys for _, keys in parts])), looks)
        logits, features = show(teacher, shown, self._mixer.chunk_size)
        of_sets = {name: value for name, value in vars(kept).items() if name != "mask_logits"}
        return Shown(images=shown, logits=logits, features=features, masks=masks, **of_sets)

    def _stored(
        self, alive: Int[np.ndarray, " r"], count: int, rng: np.random.Generator
    ) -> tuple[Kept | None, Int[np.ndarray, " count"]]:
        """Choose from the sets of the store, and count their uses; return their keys too."""
        if count == 0:
            return None, alive[:0]
        uses, keys = self.store.columns["uses"], self.store.columns["keys"]
        chosen = alive[rng.choice(len(alive), size=count, replace=count > len(alive), p=replay_shares(uses[alive]))]
        np.add.at(uses, chosen, 1)
        rows = to_device(chosen, self._device)
        held = {name: column[rows] for name, column in self.store.columns.items() if isinstance(column, Tensor)}
        return Kept(**held | {"mask_logits": held["mask_logits"].to(self.slots.state.mask_logits)}), keys[chosen]

    def _in_work(
        self, occupied: Int[np.ndarray, " r"], count: int, rng: np.random.Generator
    ) -> tuple[Kept | None, Int[np.ndarray, " count"]]:
        if count == 0:
            return None, occupied[:0]
        chosen = occupied[rng.choice(len(occupied), size=count, replace=count > len(occupied))]
        return self._kept(chosen), self.slots.keys[chosen]

    def has_sets(self) -> bool:
        """Return whether there is anything to show."""
        return bool(self.alive().any() or self._in_slots().any())

    def tensors(self) -> dict[str, Tensor]:
        """Return slots, store and counts, for `load_tensors`."""
        held = {f"slots/{name}": value for name, value in self.slots.tensors().items()}
        held |= {f"store/{name}": value for name, value in self.store.tensors().items()}
        return held | {"solving/counts": torch.tensor([self.shown, self.visited, self.ended, self._entered])}

    def load_tensors(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Take up what `tensors` gave."""
        self.slots = Slots.from_tensors(part_of(tensors, "slots"), device)
        self.store = Ring.from_tensors(part_of(tensors, "store"), device, _ON_HOST)
        self.shown, self.visited, self.ended, self._entered = tensors["solving/counts"].tolist()

    def alive(self) -> np.ndarray:
        """Return which sets of the store have all their sources: those of the oldest may be overwritten."""
        if len(self.store) == 0:
            return np.zeros(0, dtype=bool)
        return self._have_images(self.store.columns["oldest"][: len(self.store)])

    def _in_slots(self) -> np.ndarray:
        """Return which slots hold a set whose sources are there."""
        return self.slots.occupied & self._have_images(self.slots.oldest)

    def _have_images(self, oldest: Int[np.ndarray, " r"]) -> np.ndarray:
        """Return whether all sources of sets are there, by the least arrival number that they may have."""
        return oldest >= self.images.ring.added - self.images.ring.capacity

    def _leave(self, places: Int[np.ndarray, " e"]) -> None:
        """Empty slots; the store takes the sets, unless they were spared visits: these are half solved."""
        self.slots.occupied[places] = False
        self.ended += len(places)
        places = places[self.slots.spared[places] == 0]
        if len(places) == 0:
            return
        kept, slots = self._kept(places), self.slots
        masks, weights = self._mixer.settle(kept.mask_logits, kept.mix_weights, kept.outcomes)
        settled = {"mask_logits": masks.half(), "mix_weights": weights}
        of_host = {"keys": slots.keys[places], "oldest": slots.oldest[places], "uses": np.zeros_like(places)}
        self.store.add(vars(kept) | settled | of_host)

    def _enter(self, teacher: FrozenTeacher, places: Int[np.ndarray, " e"], rng: np.random.Generator) -> None:
        """Draw new sets of the newest images for free slots."""
        if len(places) == 0:
            return
        mixer, count = self._mixer, len(places)
        candidates = self.images.ring.newest(self.plan.window)
        if len(candidates) < mixer.k:  # of the first, small batches: an image is in a set more than once
            candidates = np.resize(candidates, mixer.k)
        sources = self.images.choose_sets(candidates, count, mixer.k, mixer.pairing, rng)
        weights = draw_weights(rng, count, mixer.k, mixer.alpha)
        weights = to_device(weights, self._device, self.slots.drawn.mix_weights.dtype)
        drawn = Drawn(sources, self.images.classes(sources), weights)
        keys = draw_keys(rng, count)
        start = self.slots.state.mask_logits.new_zeros(count, *self.slots.state.mask_logits.shape[1:])
        if mixer.init != "zeros":
            self.start_passes += sources.numel()
            start = mixer.start(teacher, self.images.at(sources), drawn.classes, drawn.mix_weights)
        spared = np.zeros(count, dtype=np.int64)
        if not mixer.early_stop and self._entered < len(self.slots):  # so that sets do not all end together
            spared = (self._entered + np.arange(count)) % mixer.max_steps
            spared[self._entered + np.arange(count) >= len(self.slots)] = 0
        self._entered += count
        self.slots.enter(places, drawn, keys, start, spared, self.images.ring.added - len(candidates))

    def _kept(self, places: Int[np.ndarray, " r"]) -> Kept:
        """Return sets of the slots as the store keeps them."""
        state = self.slots.state
        kept = Kept(
            mask_logits=state.best_mask_logits,
            **vars(self.slots.drawn),
            outcomes=state.outcomes,
            num_steps=state.num_steps,
        )
        return kept.take(to_device(places, self._device))


def replay_shares(uses: Int[np.ndarray, " r"]) -> Float[np.ndarray, " r"]:
    """Return how likely each stored set is to be replayed next, by what is left to it of twice the mean of all.

    Drawn alike, a set would have as many replays as the logarithm of its age has: the first sets of a run very many.
    So none has more than about twice the mean, and of sets that arrive evenly the n-th oldest part has them in
    proportion to its age.
    """
    left = np.maximum(1 - uses / (2 * max(float(uses.mean()), 0.5)), _LEAST_SHARE)
    return left / left.sum()


def expected_rounds(mixer: SuperMix) -> float:
    """Return how many visits a set will take: its steps, or a guess where it may end before."""
    return float(mixer.max_steps) if not mixer.early_stop else float(min(mixer.max_steps + 1, _GUESSED_ROUNDS))


def set_bytes(mixer: SuperMix, grid: tuple[int, int]) -> int:
    """Return what a solved set takes in the store, on a mask grid of some height and width."""
    height, width = grid
    return 2 * mixer.k * height * width + mixer.k * (8 + 8 + 4) + 5 * 8
