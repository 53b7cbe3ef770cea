"""The stream engine: a fixed amount of solving in every training step, and a pool of mixes to draw from."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from supermix_pl.arguments import check_at_least, check_flag, check_one_of, check_positive, check_transform
from supermix_pl.engine.draw import draw_some
from supermix_pl.engine.engine import Engine, Run
from supermix_pl.engine.plan import Plan, plan_for_budget, plan_for_reuse, plan_of
from supermix_pl.engine.pool import Pool, PoolDtype
from supermix_pl.engine.shown import keep_first
from supermix_pl.engine.slots import Slots
from supermix_pl.engine.timing import Sample, sample, times_of
from supermix_pl.mixing import MixedBatch, Mixer, MixUp, Seed, SuperMix
from supermix_pl.mixing.inputs import NaturalPass, check_images, float_autograd, generator
from supermix_pl.solver.chunks import Chunks
from supermix_pl.teacher import FrozenTeacher
from supermix_pl.transforms import RandomCropFlip

_CROP_AND_FLIP = RandomCropFlip(padding=2)
_DEFAULT_REUSE = 8.0
_STEPS_TO_TIME = 10
_BEGINNING: dict[str, Any] = {"step": 0, "tests": 0.0, "plan": None}
_MOST_ENTRIES = 2.0  # a turn, as a multiple of the sets that end in one
_MOST_SETS_AN_IMAGE = 2  # that enter in a turn: a last batch is small
_MANY_USES = 60  # of the paper's fixed mixes


class StreamEngine(Engine):
    """Mixing at a constant cost: sets are solved over many training steps, and each mix is used several times.

    A fixed number of slots hold unfinished sets. In a turn, in each training step or each so many, all of them get a
    fixed number of rounds, in shapes that never change; sets that have ended go to a pool, and new ones of the current
    batch take their slots. Each step draws its mixes from the pool, under a new random view; see `default_transform`.

    Of `budget`, `reuse` and `slots` give at most one; the others follow from it and are logged, as `rounds` and
    `every_n_steps` do where they are not given. What is measured for a budget is measured once, on rank 0.

    Deviation: the paper solves a fixed data set of mixes beforehand and uses each of them 60 times.

    Args:
        budget: Time that solving and drawing may add, as a share of a training step without them, > 0. Putting the
            batch together, which MixUp does too, comes on top. One that does not pay for mixes is warned of.
        reuse: Times that a mix is used on average, > 0. 8 where nothing is given.
        slots: Sets that are solved at the same time, >= 1.
        rounds: Rounds that each of them gets in a turn, >= 1; 1 where they suffice.
        every_n_steps: Training steps from one turn to the next, >= 1. Rare turns of many slots make as many mixes as
            frequent ones of few, at more memory, and on a GPU often in less time, as launching a round may take longer
            than the round of a few sets. None is 1 with `slots`; with `budget` what was measured decides; with `reuse`
            it is 1 on a CPU, and on a GPU what two slots an image allow.
        pool_bytes: What the pool may take on the device, >= 1.
        pool_dtype: "uint8" keeps the mixes in 256 levels, "batch" as they are.
        keep_masks: Whether the pool keeps the masks too, on the mask grid, for `MixedBatch.masks`.
        relabel: Whether the teacher labels every view anew; else the view has the logits of its mix.
        until_warm: What fills in until the pool holds what `reuse` steps need, at most 8 batches: the "batch" engine,
            whose mixes go to the pool too, or "mixup" of as many sources, with `MixUp`'s own alpha. The first batch is
            solved in either case.
        default_transform: What the drawn mixes pass through where the callback has no `mixed_transform`; None for
            nothing.

    Raises:
        ValueError: If an argument is out of its range, or more is given than can hold at once.
        TypeError: If default_transform cannot be called.
    """

    def __init__(
        self,
        *,
        budget: float | None = None,
        reuse: float | None = None,
        slots: int | None = None,
        rounds: int | None = None,
        every_n_steps: int | None = None,
        pool_bytes: int = 2**28,
        pool_dtype: PoolDtype = "uint8",
        keep_masks: bool = False,
        relabel: bool = False,
        until_warm: Literal["batch", "mixup"] = "batch",
        default_transform: Callable[[Tensor], Tensor] | None = _CROP_AND_FLIP,
    ) -> None:
        given = {"budget": budget, "reuse": reuse, "slots": slots}
        if sum(value is not None for value in given.values()) > 1:
            raise ValueError(f"expected at most one of budget, reuse and slots, got {given}; the others follow from it")
        for name, share in (("budget", budget), ("reuse", reuse)):
            if share is not None:
                check_positive(name, share)
        for name, count in (("slots", slots), ("rounds", rounds), ("every_n_steps", every_n_steps)):
            if count is not None:
                check_at_least(name, count, 1)
        check_at_least("pool_bytes", pool_bytes, 1)
        check_flag("keep_masks", keep_masks)
        check_flag("relabel", relabel)
        check_one_of("pool_dtype", pool_dtype, get_args(PoolDtype))
        check_one_of("until_warm", until_warm, ("batch", "mixup"))
        if default_transform is not None:
            check_transform("default_transform", default_transform)
        self.budget, self.reuse, self.slots, self.rounds = budget, reuse, slots, rounds
        self.every_n_steps = every_n_steps
        self.pool_bytes = pool_bytes
        self.pool_dtype: PoolDtype = pool_dtype
        self.keep_masks = keep_masks
        self.relabel = relabel
        self.until_warm = until_warm
        self.plan: Plan | None = None
        self._default_transform = default_transform
        self._run = Run()
        self._step = 0
        self._tests = 0.0
        self._timed = 0
        self._largest = 0
        self._samples: list[Sample] = []
        self._pool: Pool | None = None
        self._slots: Slots | None = None
        self._ended: tuple[Tensor, MixedBatch] | None = None
        self._metrics: dict[str, float] = {}

    @property
    def relabels(self) -> bool:
        """Whether the teacher is asked again for its logits of the transformed mixes."""
        return self.relabel

    @property
    def default_transform(self) -> Callable[[Tensor], Tensor] | None:
        """What the mixes pass through where the user names no transform."""
        return self._default_transform

    @property
    def steps(self) -> int:
        """Batches that were mixed so far."""
        return self._step

    @property
    def period(self) -> int:
        """Steps from turn to turn."""
        return 1 if self.plan is None else self.plan.every_n_steps

    def check(self, mixer: Mixer) -> None:
        """Refuse a mixer that solves nothing."""
        if not isinstance(mixer, SuperMix):
            raise TypeError(
                f"expected SuperMix for the stream engine, which spreads its solving over steps, got {mixer!r}; choose "
                'engine="batch"'
            )

    def begin(self, run: Run) -> None:
        """Start anew with a training run."""
        self._run = run
        self._timed = 0
        self._largest = 0
        self._samples = []
        self.load_state_dict(_BEGINNING)

    def mix(
        self,
        mixer: Mixer,
        teacher: FrozenTeacher | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None,
        *,
        seed: Seed,
    ) -> MixedBatch:
        """Let the sets in the slots go on, and draw as many mixes as there are images."""
        self.check(mixer)
        assert isinstance(mixer, SuperMix)
        if teacher is None:
            raise ValueError("expected a teacher to supervise the masks, got None")
        pixels = check_images(images)
        mixer.check_fit(pixels, labels)
        if self._slots is not None and pixels.shape[1:] != self._slots.image_shape:
            raise ValueError(
                f"expected images of one shape for the stream engine, got {tuple(pixels.shape[1:])} after "
                f'{tuple(self._slots.image_shape)}; choose engine="batch"'
            )
        rng = generator([*(seed if not isinstance(seed, int) else [seed]), 1])
        with float_autograd(images.device):
            filled = self._fill_in(mixer, teacher, images, labels, seed=seed)
            if self.plan is None:
                self.plan = self._make_plan(mixer, teacher, images, pixels, labels)
            forwards, backwards, fresh = self._turn(mixer, teacher, images, pixels, labels, rng)
            if filled is not None:
                mix, age = filled, 0.0
            else:
                mix, born = self._held_pool(mixer).draw(rng, images)
                age = self._step - float(born.mean())
        self._step += 1
        self._timed += 1
        pool = self._held_pool(mixer)
        uses = pool.drawn / pool.added if pool.added else 0.0
        self._metrics = {"fresh": fresh, "age": age, "uses": uses, "pool_bytes": pool.num_bytes}
        return dataclasses.replace(
            mix,
            teacher_forwards=mix.teacher_forwards + forwards,
            teacher_backwards=mix.teacher_backwards + backwards,
        )

    def metrics(self) -> dict[str, float]:
        """Give new mixes of this step, mean age of its mixes in steps, uses a mix so far, and bytes of the pool."""
        return self._metrics

    def to_show(self, images: Float[Tensor, "b c h w"], mix: MixedBatch) -> tuple[Float[Tensor, "m c h w"], MixedBatch]:
        """Give the sets that ended last, before any transform, in the place of mixes that come from the pool."""
        drawn_from_pool = bool((mix.source_indices < 0).any())
        return self._ended if drawn_from_pool and self._ended is not None else (images, mix)

    def state_dict(self) -> dict[str, Any]:
        """Give the plan, what it comes from, and the number of the step."""
        plan = None if self.plan is None else dataclasses.asdict(self.plan)
        return {"step": self._step, "tests": self._tests, "plan": plan}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the plan; slots and pool fill anew unless `load_tensors` follows. Another engine's state is empty."""
        state = state or _BEGINNING
        self._step, self._tests = state["step"], state["tests"]
        self.plan = None if state["plan"] is None else Plan(**state["plan"])
        self._pool, self._slots, self._ended, self._metrics = None, None, None, {}

    def tensors(self) -> dict[str, Tensor]:
        """Give pool and slots."""
        parts = {"pool": self._pool, "slots": self._slots}
        return {
            f"{part}/{name}": value
            for part, held in parts.items()
            if held is not None
            for name, value in held.tensors().items()
        }

    def load_tensors(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Take up what `tensors` gave."""
        parts: dict[str, dict[str, Tensor]] = {"pool": {}, "slots": {}}
        for name, value in tensors.items():
            part, _, field = name.partition("/")
            parts[part][field] = value
        if parts["pool"]:
            self._pool = Pool(self.pool_bytes, self.pool_dtype, None)
            self._pool.load_tensors(parts["pool"], device)
        if parts["slots"]:
            self._slots = Slots.from_tensors(parts["slots"], device)

    def _fill_in(
        self,
        mixer: SuperMix,
        teacher: FrozenTeacher,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None,
        *,
        seed: Seed,
    ) -> MixedBatch | None:
        """Mix the batch at hand while the pool holds too little; the first mixes tell how long sets take."""
        pool = self._held_pool(mixer)
        solve_now = self._tests == 0 or (self.plan is None and len(pool) == 0)
        if not solve_now:
            if self.plan is not None and len(pool) >= self._enough(len(images)):
                return None
            if self.until_warm == "mixup":
                return MixUp(k=mixer.k, chunk_size=mixer.chunk_size)(teacher, images, labels, seed=seed)
        mix = mixer(teacher, images, labels, seed=seed)
        if mix.mix_weights.shape[1] == mixer.k:
            pool.add(mix, self._step)
        if self._tests == 0:
            self._tests = float(self._run.broadcast(1 + float(mix.num_steps.float().mean())))
        return mix

    def _enough(self, batch_size: int) -> int:
        """Say how many mixes the pool must hold before training draws from it."""
        assert self.plan is not None
        assert self._pool is not None
        wanted = math.ceil(batch_size * min(self.plan.reuse, _DEFAULT_REUSE))
        return min(wanted, self._pool.capacity) if self._pool.capacity else wanted

    def _make_plan(
        self,
        mixer: SuperMix,
        teacher: FrozenTeacher,
        images: Float[Tensor, "b c h w"],
        pixels: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None,
    ) -> Plan | None:
        """Set slots and rounds, as soon as all is known that they depend on."""
        size, tests = len(pixels), self._tests
        self._largest = max(size, self._largest)
        if self.slots is not None:
            plan = plan_of(self.slots, self.rounds or 1, size, tests, every_n_steps=self.every_n_steps or 1)
        elif self.budget is None:
            if size < self._largest:  # a last batch
                return None
            reuse, launching = self.reuse or _DEFAULT_REUSE, _is_launch_bound(pixels.device)
            plan = plan_for_reuse(reuse, size, tests, self.rounds, self.every_n_steps, launching=launching)
        else:
            if self._run.is_first_rank and len(self._held_pool(mixer)):
                self._samples.append(sample(mixer, teacher, images, labels, pool=self._held_pool(mixer)))
            if self._timed < _STEPS_TO_TIME:
                return None
            plan = None
            if self._samples and size == self._largest:
                training = self._run.training_seconds()
                if training is None:
                    raise ValueError("expected times of training steps for budget=..., got none; give slots or reuse")
                times = times_of(self._samples, training=training)
                plan = plan_for_budget(self.budget, size, tests, times, self.rounds, self.every_n_steps)
            plan = self._run.broadcast(plan)
            if plan is None:
                return None
        _tell(plan, size, self.budget)
        return plan

    def _turn(
        self,
        mixer: SuperMix,
        teacher: FrozenTeacher,
        images: Float[Tensor, "b c h w"],
        pixels: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None,
        rng: np.random.Generator,
    ) -> tuple[int, int, int]:
        """Let ended sets leave, new ones enter, and all of them go on.

        Returns:
            Images that the teacher passed, rows of input gradients, and new mixes in the pool.
        """
        if self.plan is None or self._step % self.plan.every_n_steps:
            return 0, 0, 0
        forwards = backwards = fresh = 0
        left = None if self._slots is None else self._slots.leave()
        if left is not None:
            drawn, solution = left
            mix = mixer.finish(teacher, drawn, solution, images, NaturalPass(None, None, drawn.num_classes, 0, 0))
            self._held_pool(mixer).add(mix, self._step)
            forwards, fresh = mix.teacher_forwards, len(mix)
            if self._run.draws:
                self._ended = keep_first(drawn, mix)
        if len(pixels) >= mixer.k:
            looked = self._enter(mixer, teacher, pixels, labels, rng)
            forwards, backwards = forwards + looked.forwards, looked.backwards
        if self._slots is not None:
            self._slots.advance(mixer.solver, teacher, self.plan.rounds, Chunks(teacher, mixer.chunk_size))
            passed = len(self._slots) * self.plan.rounds
            forwards, backwards = forwards + passed, backwards + passed
        return forwards, backwards, fresh

    def _enter(
        self,
        mixer: SuperMix,
        teacher: FrozenTeacher,
        pixels: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None,
        rng: np.random.Generator,
    ) -> NaturalPass:
        """Fill free slots with sets of the batch, not much faster than sets end: they shall not end all at once."""
        assert self.plan is not None
        free = np.arange(self.plan.slots) if self._slots is None else self._slots.free()
        places = free[: min(math.ceil(_MOST_ENTRIES * self.plan.ending), _MOST_SETS_AN_IMAGE * len(pixels))]
        if len(places) == 0:
            return NaturalPass(None, None, 0, 0, 0)
        natural, drawn, start = draw_some(mixer, teacher, pixels, labels, len(places), rng)
        if self._slots is None:
            self._slots = Slots(self.plan.slots, drawn, start)
        self._slots.enter(places, drawn, start)
        return natural

    def _held_pool(self, mixer: SuperMix) -> Pool:
        if self._pool is None:
            self._pool = Pool(self.pool_bytes, self.pool_dtype, mixer.mask_grid if self.keep_masks else None)
        return self._pool


def _is_launch_bound(device: torch.device) -> bool:
    """Tell whether a round of few sets takes about as long as one of many, as small networks' do on a GPU."""
    return device.type == "cuda"


def _tell(plan: Plan, batch_size: int, budget: float | None) -> None:
    """Say what was planned, and warn of what was asked for and cannot be had."""
    turn = "" if plan.every_n_steps == 1 else f", a turn every {plan.every_n_steps} steps"
    share = "" if plan.share is None else f"; mixing takes about {plan.share:.0%} of a training step"
    rank_zero_info(
        f"Stream engine: {plan.slots} slots, rounds in a turn: {plan.rounds}{turn}. A set ends after {plan.tests:.1f} "
        f"rounds, so about {plan.fresh:.1f} new mixes a step for {batch_size} images, each used {plan.reuse:.1f} times"
        f"{share}"
    )
    if budget is None or plan.share is None or (plan.share <= budget and plan.reuse <= _MANY_USES):
        return
    rank_zero_warn(
        f"expected a budget that pays for mixes, got budget={budget:g}: mixing takes about {plan.share:.0%} of a "
        f"training step, and a mix is used {plan.reuse:.0f} times. Give a larger budget, or a number of uses as reuse"
    )
