"""What all mixers share whose mixes are made at once, in one go and without a solver."""

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from supermix_pl.arguments import check_at_least, check_one_of, check_positive, hold_floats
from supermix_pl.mixing.checks import check_images
from supermix_pl.mixing.choosing import ChoosingMixer, Chosen
from supermix_pl.mixing.mixer import MixedBatch, Seed
from supermix_pl.mixing.natural import float_autograd
from supermix_pl.mixing.presenting import holds, present
from supermix_pl.mixing.sampling import Pairing, draw_keys, draw_weights
from supermix_pl.mixing.views import Transform
from supermix_pl.solver import Outcome
from supermix_pl.solver.rows import to_device
from supermix_pl.teacher.frozen import FrozenTeacher, as_teacher

Drawn = tuple[Float[np.ndarray, "b k _ _"], Float[np.ndarray, "b k"]]
"""Masks, of the images' size or of one pixel, and weights."""


@dataclass(frozen=True)
class Composed:
    """What b mixes are made of: `mix_images(sources, masks)`.

    Attributes:
        sources: As they lie in the mix: as they are, resized or moved.
        masks: The share of each at each pixel, summing to 1 over k.
        weights: The weights of the sources on their classes, summing to 1 over k.
        passes: Images that the teacher passed, forward and backward.
    """

    sources: Float[Tensor, "b k c h w"]
    masks: Float[Tensor, "b k h w"]
    weights: Float[Tensor, "b k"]
    passes: int = 0

    @classmethod
    def of(cls, sources: Float[Tensor, "b k c h w"], masks: Float[Tensor, "b k h w"], passes: int = 0) -> "Composed":
        """Weigh the sources with the means of their masks."""
        return cls(sources, masks, masks.mean(dim=(2, 3)), passes)


@dataclass(frozen=True, kw_only=True)
class DirectMixer(ChoosingMixer):
    """A mixer that makes its mixes at once. Subclass it and write `place`.

    Args:
        pairing: Which images are mixed: "shift", "random" or "distinct"; see `SuperMix`.
        num_classes: n, for mixing without a teacher. With a teacher its own n counts.
        chunk_size: Images that the teacher sees at once, >= 1; None for all.

    Raises:
        ValueError: If an argument is out of its range.
    """

    pairing: Pairing = "shift"
    num_classes: int | None = None
    chunk_size: int | None = field(default=None, repr=False)  # fixed mixes are known by the repr

    def __post_init__(self) -> None:
        check_one_of("pairing", self.pairing, get_args(Pairing))
        if self.num_classes is not None:
            check_at_least("num_classes", self.num_classes, 1)
        if self.chunk_size is not None:
            check_at_least("chunk_size", self.chunk_size, 1)
        hold_floats(self)

    @property
    def takes_labels(self) -> bool:
        """Whether the classes of the sources are the given labels, which there must be if there is no teacher."""
        return not self.needs_teacher

    def with_classes(self, num_classes: int) -> "DirectMixer":
        """Return a mixer that knows n, for mixing without a teacher."""
        return dataclasses.replace(self, num_classes=num_classes)

    def compose(self, chosen: Chosen) -> Composed:
        """Place the sources of sets and find their masks; a source without a partner keeps all of its pixels."""
        if chosen.source_indices.shape[1] > 1:
            return self.place(chosen)
        sources = chosen.sources
        return Composed.of(sources, torch.ones_like(sources[:, :, 0]))

    @abstractmethod
    def place(self, chosen: Chosen) -> Composed:
        """Do what `compose` says, of two sources or more."""

    def mix(self, chosen: Chosen, num_classes: int) -> MixedBatch:
        """Mix sets in the precision of the images, not labelled yet."""
        composed, indices = self.compose(chosen), chosen.source_indices
        return MixedBatch.of(
            composed.sources,
            composed.masks,
            indices,
            chosen.classes[indices],
            composed.weights,
            num_classes,
            teacher_forwards=composed.passes,
            teacher_backwards=composed.passes,
        )

    def __call__(
        self,
        teacher: FrozenTeacher | nn.Module | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None = None,
        *,
        seed: Seed,
        num_classes: int | None = None,
        view: Transform | None = None,
        natural_logits: Float[Tensor, "b n"] | None = None,
    ) -> MixedBatch:
        """Return one mix for each image.

        Args:
            teacher: Labels the mixes, and the sources if no labels are given. None mixes without one.
            images: Finite floating point images.
            labels: Class indices; None for the teacher's argmax.
            seed: Non-negative integer, or a sequence of them. The same seed and batch give the same mixes.
            num_classes: n, for mixing without a teacher, instead of the mixer's own.
            view: The view under which the student sees the mixes; None for the mixes as they are.
            natural_logits: The teacher's logits of `images`, if you have them; this spares a forward pass.

        Raises:
            ValueError: If images, labels and teacher do not fit together.
        """
        if num_classes is not None:
            return self.with_classes(num_classes)(
                teacher, images, labels, seed=seed, view=view, natural_logits=natural_logits
            )
        if teacher is None and self.needs_teacher:
            raise ValueError(f"expected a teacher, whose gradients {type(self).__name__} asks for, got None; give one")
        pixels = check_images(images)
        with float_autograd(pixels.device), torch.no_grad():
            teacher = None if teacher is None else as_teacher(teacher)
            chosen, natural, left_out = self.choose(teacher, pixels, labels, natural_logits, seed)
            mix = self.mix(chosen, natural.num_classes)
            forwards = mix.teacher_forwards + natural.forwards
            mix = dataclasses.replace(mix, natural_logits=natural.logits, left_out=left_out, teacher_forwards=forwards)
            keys = to_device(draw_keys(chosen.rng, len(images)), pixels.device)
            return judge(
                present(mix, teacher, images, view, seed=seed, exact=False, keys=keys, chunk_size=self.chunk_size)
            )


def judge(mix: MixedBatch) -> MixedBatch:
    """Call mixes that no solver made solved where what is shown meets the criterion."""
    if mix.teacher_logits is None:
        return mix
    solved = holds(mix, mix.teacher_logits) & ~mix.non_finite
    return dataclasses.replace(mix, outcomes=mix.outcomes.masked_fill(solved, int(Outcome.SOLVED)))


@dataclass(frozen=True, kw_only=True)
class BlindMixer(DirectMixer):
    """What MixUp, CutMix and FMix share: masks that are drawn without looking at the images.

    Args:
        k: Sources in a set, >= 1.
        alpha: Concentration of the Dirichlet distribution of the mixing weights, > 0; Beta(alpha, alpha) for k = 2.

    The other arguments, and the errors, are those of `DirectMixer`.
    """

    k: int = 2
    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)
        check_positive("alpha", self.alpha)
        super().__post_init__()

    @abstractmethod
    def draw_masks(self, rng: np.random.Generator, count: int, k: int, size: tuple[int, int]) -> Drawn:
        """Draw the masks of `count` sets of k sources, and return them with the weights that the mixes really have."""

    def draw_weights(self, rng: np.random.Generator, count: int, k: int) -> Float[np.ndarray, "b k"]:
        """Draw mixing weights."""
        return draw_weights(rng, count, k, self.alpha)

    def place(self, chosen: Chosen) -> Composed:
        """Draw the masks; the sources stay as they are."""
        size = (chosen.images.shape[2], chosen.images.shape[3])
        count, k = chosen.source_indices.shape
        masks, weights = self.draw_masks(chosen.rng, count, k, size)
        images = chosen.images
        masks, weights = (to_device(each, images.device, images.dtype) for each in (masks, weights))
        return Composed(chosen.sources, masks.expand(-1, -1, *size), weights)
