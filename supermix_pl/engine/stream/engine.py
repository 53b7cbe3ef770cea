"""The stream engine: every pass of the teacher is a lesson, at a constant cost a step."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn
from torch.utils.data import Dataset

from supermix_pl.arguments import check_transform
from supermix_pl.engine.base import Engine, Run
from supermix_pl.engine.stream.direct import mix_stored
from supermix_pl.engine.stream.images import check_shape, read_sources
from supermix_pl.engine.stream.lessons import mix_solved
from supermix_pl.engine.stream.plan import Plan
from supermix_pl.engine.stream.replanning import replanned
from supermix_pl.engine.stream.settings import Settings
from supermix_pl.engine.stream.state import ACCOUNTS, SHOWN_AT_MOST, StreamState
from supermix_pl.engine.stream.step import Step
from supermix_pl.mixing import DirectMixer, MixedBatch, Mixer, Seed, SuperMix
from supermix_pl.mixing.checks import check_images, check_rows, numbers
from supermix_pl.mixing.natural import float_autograd
from supermix_pl.mixing.presenting import like_batch
from supermix_pl.mixing.views import Transform
from supermix_pl.teacher.frozen import FrozenTeacher, as_teacher
from supermix_pl.transforms import RandomCropFlip

_CROP_AND_FLIP = RandomCropFlip()


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
        if default_transform is not None:
            check_transform("default_transform", default_transform)
        settings = Settings(reuse=reuse, budget=budget, slots=slots, show_from=show_from, store_bytes=store_bytes)
        sources = None if sources is None else read_sources(sources, store_bytes)
        self._settings = replace(settings, sources=sources)
        self.budget = budget
        self.needs_teacher = sources is not None
        self.default_transform = default_transform
        self._mixer = ""
        self._run = Run()
        self._state = StreamState()

    def __repr__(self) -> str:
        view = self.default_transform
        return f"StreamEngine({self._settings}{'' if view == _CROP_AND_FLIP else f', default_transform={view!r}'})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to a run: copies begin anew."""
        return vars(self) | {"_run": Run(), "_state": StreamState()}

    @property
    def sources(self) -> Float[Tensor, "n c h w"] | None:
        """The images that are mixed; None for those of earlier batches."""
        return self._settings.sources

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
        step = Step(
            images=images,
            pixels=pixels,
            labels=labels,
            logits=natural_logits,
            view=view,
            count=len(images) if num_mixes is None else num_mixes,
            seed=numbers(seed),
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
                mix = mix_stored(self._state, self._settings, mixer, teacher, step)
            else:
                assert isinstance(mixer, SuperMix)
                if teacher is None:
                    raise ValueError("expected a teacher to supervise the masks, got None")
                self._state = replanned(self._state, self._settings, self._run, mixer, step.count)
                mix = mix_solved(self._state, self._settings, mixer, teacher, step)
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
        if self._state.pictured is None:
            return images, mix
        rows = slice(max(0, len(mix) - SHOWN_AT_MOST), None)
        sources = self._state.pictured.to(mix.images.dtype)
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

    def _asked(self) -> str:
        return f"{self._settings} {self._mixer}"

    def _resumed(self, saved: dict[str, Any]) -> StreamState:
        """Go on with the accounts of a checkpoint, or this rank's own beside it, unless they are of other settings."""
        if saved["asked"] != self._asked():
            rank_zero_info(
                "Stream engine: its settings or the mixer's are others than in the checkpoint, so it begins anew with "
                "these."
            )
            return StreamState(step=saved["step"])
        return StreamState.resumed(saved, self._state.loaded)
