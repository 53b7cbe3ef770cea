"""What a mixed batch is, and what mixes one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from supermix_pl.solver import Outcome
from supermix_pl.teacher import FrozenTeacher

Seed = int | Sequence[int]
"""A non-negative integer, or several that name a stream together."""


@dataclass
class MixedBatch:
    """Mixes of b sets of k images, with all that is known of them.

    Attributes:
        images: The mixes, in the dtype and memory format of the batch.
        masks: The share of each source at each pixel, in [0, 1], summing to 1 over k; of the mix before any
            `mixed_transform`, which may have changed the size of the images. 0 x 0 pixels if not kept.
        soft_targets: Eq. 2: the weights of the sources on their classes, summing to 1.
        teacher_logits: The teacher's logits of the mixes; None if they were mixed without one.
        source_indices: Rows of the batch that make up each set; column 0 is the image itself. -1 if they are not of
            this batch.
        source_classes: The classes of the sources.
        mix_weights: The weights of the sources, summing to 1 over k.
        outcomes: An `Outcome` a set. Mixes that no solver made are solved where they meet the criterion all the same.
        num_steps: Updates of the masks that each set has had.
        natural_logits: The teacher's logits of the natural images; None if they were not needed.
        teacher_forwards: Images that the teacher has passed forward for this batch.
        teacher_backwards: Rows of input gradients that it has given.
    """

    images: Float[Tensor, "b c h w"]
    masks: Float[Tensor, "b k height width"]
    soft_targets: Float[Tensor, "b n"]
    teacher_logits: Float[Tensor, "b n"] | None
    source_indices: Int[Tensor, "b k"]
    source_classes: Int[Tensor, "b k"]
    mix_weights: Float[Tensor, "b k"]
    outcomes: Int[Tensor, " b"]
    num_steps: Int[Tensor, " b"]
    natural_logits: Float[Tensor, "b n"] | None
    teacher_forwards: int
    teacher_backwards: int

    def __len__(self) -> int:
        """Count the mixes."""
        return len(self.images)

    @property
    def solved(self) -> Bool[Tensor, " b"]:
        """Tell which mixes show the teacher every class of their set."""
        return self.outcomes == Outcome.SOLVED

    @property
    def non_finite(self) -> Bool[Tensor, " b"]:
        """Tell which sets ended because the teacher gave NaN or infinity; their mix is the natural image."""
        return self.outcomes == Outcome.NON_FINITE


@runtime_checkable
class Mixer(Protocol):
    """Mixes each image of a batch with others of the batch."""

    def __call__(
        self,
        teacher: FrozenTeacher | nn.Module | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None = None,
        *,
        seed: Seed,
    ) -> MixedBatch:
        """Give one mix for each image; the same seed and batch give the same mixes."""
        ...
