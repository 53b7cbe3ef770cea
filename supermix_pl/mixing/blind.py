"""What MixUp and CutMix share: masks drawn without looking at the images."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from supermix_pl.arguments import check_at_least, check_one_of, check_positive
from supermix_pl.mixing.assembly import assemble
from supermix_pl.mixing.drawn import DrawnSets
from supermix_pl.mixing.inputs import (
    NaturalPass,
    check_images,
    check_labels,
    check_seen,
    count_classes,
    fit_k,
    float_autograd,
    generator,
    show_natural,
)
from supermix_pl.mixing.mixer import MixedBatch, Seed
from supermix_pl.mixing.sampling import Pairing, draw_sources, draw_weights
from supermix_pl.solver import Outcome
from supermix_pl.solver.chunks import Chunks, show
from supermix_pl.solver.criterion import margin
from supermix_pl.solver.masks import mix_images
from supermix_pl.teacher import FrozenTeacher, as_teacher


@dataclass(frozen=True, kw_only=True)
class BlindMixer(ABC):
    """A mixer that draws its masks without looking at the images.

    Args:
        k: Sources in a set, >= 1.
        alpha: Concentration of the Dirichlet distribution of the mixing weights, > 0; Beta(alpha, alpha) for k = 2.
        pairing: Who is mixed with whom; see `Pairing`.
        num_classes: n, for mixing without a teacher; with one its own n counts.
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

    @abstractmethod
    def draw_masks(
        self, rng: np.random.Generator, weights: Float[np.ndarray, "b k"], size: tuple[int, int]
    ) -> tuple[Float[np.ndarray, "b k h w"], Float[np.ndarray, "b k"]]:
        """Draw masks from mixing weights; give them with the weights that the mixes really have."""

    def __call__(
        self,
        teacher: FrozenTeacher | nn.Module | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None = None,
        *,
        seed: Seed,
        num_classes: int | None = None,
    ) -> MixedBatch:
        """Give one mix for each image.

        Args:
            teacher: Labels the mixes, and the sources where no labels are given; None to mix without one.
            images: Finite floating point images.
            labels: Class indices; None for the teacher's argmax.
            seed: Non-negative integer, or several that name a stream; the same one gives the same mixes.
            num_classes: n, for mixing without a teacher, instead of the mixer's own.

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
            natural, classes = _classes(teacher, pixels, labels, num_classes, self.chunk_size)
            check_seen(natural)
            k = fit_k(self.k, len(pixels))
            host_classes = classes.cpu().numpy() if self.pairing == "distinct" else None
            source_indices = torch.from_numpy(draw_sources(rng, len(pixels), k, self.pairing, host_classes))
            size = (pixels.shape[2], pixels.shape[3])
            masks, weights = self.draw_masks(rng, draw_weights(rng, len(pixels), k, self.alpha), size)
            drawn = DrawnSets.of(
                pixels, natural, classes, source_indices.to(pixels.device), torch.from_numpy(weights).to(pixels)
            )
            masks = torch.from_numpy(masks).to(pixels).expand(-1, -1, *size)
            return _label(teacher, images, drawn, masks, natural, self.chunk_size)


def _label(
    teacher: FrozenTeacher | None,
    images: Float[Tensor, "b c h w"],
    drawn: DrawnSets,
    masks: Float[Tensor, "b k h w"],
    natural: NaturalPass,
    chunk_size: int | None,
) -> MixedBatch:
    """Mix, and let the teacher, if there is one, label the mixes and tell whether they meet SuperMix's criterion."""
    outcomes = torch.full_like(drawn.source_classes[:, 0], Outcome.CAPPED)
    teacher_logits, restored = None, None
    if teacher is not None:
        teacher_logits = show(teacher, mix_images(drawn.sources, masks), chunk_size)
        finite = teacher_logits.isfinite().all(dim=1)
        solved = margin(teacher_logits, drawn.sets.membership) > 0
        outcomes = outcomes.masked_fill(finite & solved, Outcome.SOLVED).masked_fill(~finite, Outcome.NON_FINITE)
        restored = ~finite
    return assemble(
        images,
        drawn,
        masks,
        teacher_logits=teacher_logits,
        outcomes=outcomes,
        num_steps=torch.zeros_like(outcomes),
        natural=natural,
        restored=restored,
        teacher_forwards=natural.forwards + (0 if teacher is None else len(images)),
        teacher_backwards=0,
    )


def _classes(
    teacher: FrozenTeacher | None,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"] | None,
    num_classes: int | None,
    chunk_size: int | None,
) -> tuple[NaturalPass, Int[Tensor, " b"]]:
    """Find the class of every image: the given label, else the teacher's argmax."""
    if labels is None:
        if teacher is None:
            raise ValueError("expected labels or a teacher to give the classes of the images, got neither")
        natural = show_natural(teacher, images, chunks=Chunks(teacher, chunk_size))
        assert natural.logits is not None
        return natural, natural.logits.nan_to_num().argmax(dim=1)
    if teacher is not None:
        natural = count_classes(teacher, images)
    elif num_classes is not None:
        natural = NaturalPass(None, None, num_classes, 0, 0)
    else:
        raise ValueError("expected num_classes where there is no teacher to tell it, got None; give num_classes=")
    return natural, check_labels(labels, len(images), natural.num_classes)
