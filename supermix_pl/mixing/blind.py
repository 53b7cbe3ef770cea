"""What MixUp and CutMix share: masks drawn without looking at the images."""

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from supermix_pl.arguments import check_at_least, check_not_negative, check_one_of, check_positive
from supermix_pl.mixing.assembly import assemble
from supermix_pl.mixing.checks import check_images, check_labels, generator
from supermix_pl.mixing.drawn import DrawnSets
from supermix_pl.mixing.mixer import MixedBatch, Mixer, Seed
from supermix_pl.mixing.natural import (
    NaturalPass,
    check_seen,
    classes_seen,
    count_classes,
    float_autograd,
    show_natural,
)
from supermix_pl.mixing.presenting import holds, present
from supermix_pl.mixing.sampling import Pairing, draw_keys, draw_known_sources, draw_weights
from supermix_pl.mixing.views import Transform
from supermix_pl.solver import Outcome
from supermix_pl.teacher.frozen import FrozenTeacher, as_teacher
from supermix_pl.teacher.passes import Chunks


@dataclass(frozen=True, kw_only=True)
class BlindMixer(Mixer):
    """What MixUp and CutMix share: a mixer that draws its masks without looking at the images.

    Args:
        k: Sources in a set, >= 1.
        alpha: Concentration of the Dirichlet distribution of the mixing weights, > 0; Beta(alpha, alpha) for k = 2.
        pairing: Which images are mixed: "shift", "random" or "distinct"; see `SuperMix`.
        num_classes: n, for mixing without a teacher. With a teacher its own n counts.
        chunk_size: Images that the teacher sees at once, >= 1; None for all.

    Raises:
        ValueError: If an argument is out of its range.
    """

    k: int = 2
    alpha: float = 1.0
    pairing: Pairing = "shift"
    num_classes: int | None = None
    chunk_size: int | None = field(default=None, repr=False)  # fixed mixes are known by the repr

    def __post_init__(self) -> None:
        """Check every argument."""
        check_at_least("k", self.k, 1)
        check_positive("alpha", self.alpha)
        check_one_of("pairing", self.pairing, get_args(Pairing))
        if self.num_classes is not None:
            check_at_least("num_classes", self.num_classes, 1)
        if self.chunk_size is not None:
            check_at_least("chunk_size", self.chunk_size, 1)

    @property
    def streams(self) -> bool:
        """Whether the stream engine knows how to spread its work: sources come from its store."""
        return True

    @property
    def takes_labels(self) -> bool:
        """Whether the classes of the sources are the given labels, even where there is a teacher."""
        return True

    def with_classes(self, num_classes: int) -> "BlindMixer":
        """Return a mixer that knows n, for mixing without a teacher."""
        return dataclasses.replace(self, num_classes=num_classes)

    @abstractmethod
    def draw_masks(
        self, rng: np.random.Generator, count: int, k: int, size: tuple[int, int]
    ) -> tuple[Float[np.ndarray, "b k h w"], Float[np.ndarray, "b k"]]:
        """Draw the masks of `count` sets of k sources, and return them with the weights that the mixes really have."""

    def draw_weights(self, rng: np.random.Generator, count: int, k: int) -> Float[np.ndarray, "b k"]:
        """Draw mixing weights."""
        return draw_weights(rng, count, k, self.alpha)

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
        if num_classes is None:
            num_classes = self.num_classes
        else:
            check_at_least("num_classes", num_classes, 1)
        rng = generator(seed)
        pixels = check_images(images)
        with float_autograd(images.device), torch.no_grad():
            teacher = None if teacher is None else as_teacher(teacher)
            natural, classes = classes_of(teacher, pixels, labels, num_classes, self.chunk_size, natural_logits)
            check_seen(natural)
            labelled = labels is not None
            chosen, left_out = draw_known_sources(rng, classes, self.k, self.pairing, labelled=labelled)
            source_indices, k = torch.from_numpy(chosen), chosen.shape[1]
            size = (pixels.shape[2], pixels.shape[3])
            masks, weights = self.draw_masks(rng, len(pixels), k, size)
            keys = torch.from_numpy(draw_keys(rng, len(pixels))).to(pixels.device)
            drawn = DrawnSets.of(
                pixels, natural, classes, source_indices.to(pixels.device), torch.from_numpy(weights).to(pixels), keys
            )
            masks = torch.from_numpy(masks).to(pixels).expand(-1, -1, *size)
            mix = assemble(
                drawn,
                masks,
                teacher_logits=None,
                outcomes=torch.full_like(drawn.source_classes[:, 0], Outcome.CAPPED),
                num_steps=torch.zeros_like(drawn.source_classes[:, 0]),
                natural=natural,
                left_out=left_out,
                teacher_forwards=natural.forwards,
                teacher_backwards=0,
            )
            mix = present(mix, teacher, images, view, seed=seed, exact=False, keys=keys, chunk_size=self.chunk_size)
            return judge(mix)


def judge(mix: MixedBatch) -> MixedBatch:
    """Call mixes that no solver made solved where what is shown meets the criterion."""
    if mix.teacher_logits is None:
        return mix
    solved = holds(mix, mix.teacher_logits) & ~mix.non_finite
    return dataclasses.replace(mix, outcomes=mix.outcomes.masked_fill(solved, int(Outcome.SOLVED)))


def classes_of(
    teacher: FrozenTeacher | None,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"] | None,
    num_classes: int | None,
    chunk_size: int | None,
    natural_logits: Float[Tensor, "b n"] | None,
) -> tuple[NaturalPass, Int[Tensor, " b"]]:
    """Find the class of every image: the given label, else the teacher's argmax; -1 where that is not to be had."""
    if labels is None:
        if teacher is None:
            raise ValueError("expected labels or a teacher to give the classes of the images, got neither")
        natural = NaturalPass.known(natural_logits)
        natural = natural or show_natural(teacher, images, chunks=Chunks(teacher, chunk_size))
        assert natural.logits is not None
        return natural, classes_seen(natural.logits, None)
    if teacher is not None:
        natural = NaturalPass.known(natural_logits) or count_classes(teacher, images)
    elif num_classes is not None:
        natural = NaturalPass(None, None, num_classes, 0, 0)
    else:
        raise ValueError("expected num_classes where there is no teacher to tell it, got None; give num_classes=")
    return natural, check_labels(labels, len(images), natural.num_classes)


@dataclass(frozen=True, kw_only=True)
class OneOf(BlindMixer):
    """Draw for every mix which of several mixers makes it, such as half MixUp, half CutMix.

    Args:
        mixers: MixUp, CutMix or others that draw their masks without looking at the images; all with the same k. The
            alpha of each counts.
        weights: How often each is drawn, >= 0, not all 0. Only their proportions count. None draws all alike.
        pairing: Which images are mixed, for all of them: "shift", "random" or "distinct"; see `SuperMix`.
        num_classes: n, for mixing without a teacher.
        chunk_size: Images that the teacher sees at once, >= 1; None for all.

    Raises:
        TypeError: If one of the mixers looks at the images.
        ValueError: If there is no mixer, if their k differ, or if there is not one weight for each.
    """

    mixers: Sequence[BlindMixer] = field(kw_only=False)
    weights: Sequence[float] | None = None
    k: int = field(default=2, init=False, repr=False)
    alpha: float = field(default=1.0, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check every argument."""
        object.__setattr__(self, "mixers", tuple(self.mixers))
        if not self.mixers:
            raise ValueError("expected at least one mixer in mixers, got none; give for instance [MixUp(), CutMix()]")
        for mixer in self.mixers:
            if not isinstance(mixer, BlindMixer):
                raise TypeError(
                    f"expected mixers that draw their masks without looking, such as MixUp and CutMix, got {mixer!r}"
                )
        if len({mixer.k for mixer in self.mixers}) > 1:
            raise ValueError(f"expected mixers of one k, got {[mixer.k for mixer in self.mixers]}")
        object.__setattr__(self, "k", self.mixers[0].k)
        if self.weights is not None:
            weights = tuple(self.weights)
            for weight in weights:
                check_not_negative("weights", weight)
            if len(weights) != len(self.mixers) or sum(weights) <= 0:
                raise ValueError(
                    f"expected a weight for each of {len(self.mixers)} mixers, not all 0, got {list(weights)}"
                )
            object.__setattr__(self, "weights", weights)
        super().__post_init__()

    def draw_masks(
        self, rng: np.random.Generator, count: int, k: int, size: tuple[int, int]
    ) -> tuple[Float[np.ndarray, "b k h w"], Float[np.ndarray, "b k"]]:
        """Let each set's mixer draw its masks."""
        shares = None if self.weights is None else np.array(self.weights, dtype=float) / sum(self.weights)
        chosen = rng.choice(len(self.mixers), size=count, p=shares)
        masks, weights = np.empty((count, k, *size)), np.empty((count, k))
        for number, mixer in enumerate(self.mixers):
            rows = np.flatnonzero(chosen == number)
            if len(rows):
                masks[rows], weights[rows] = mixer.draw_masks(rng, len(rows), k, size)
        return masks, weights
