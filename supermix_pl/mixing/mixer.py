"""What a mixed batch is, and what mixes one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from supermix_pl.mixing.views import Transform
from supermix_pl.solver import Outcome
from supermix_pl.solver.criterion import soft_targets
from supermix_pl.solver.masks import mix_images
from supermix_pl.teacher.frozen import FrozenTeacher

Seed = int | Sequence[int]
"""A non-negative integer, or several that name a stream together."""


@dataclass
class MixedBatch:
    """b mixes of k images each, with all that is known about them.

    Attributes:
        images: The mixes as the student sees them, in the dtype and memory format of the batch.
        masks: The share of each source at each pixel, in [0, 1], summing to 1 over k. They belong to the mix before any
            view, which may have changed the size of the images. 0 x 0 pixels if they were not kept.
        soft_targets: The weights of the sources on their classes, summing to 1 (Eq. 2).
        teacher_logits: The teacher's logits of exactly `images`; None if there is no teacher.
        source_indices: The rows of the batch that make up each set; column 0 is the image itself, or one that
            stands in for it if it was left out. -1 if the sources are not in this batch, as in a stream.
        source_classes: The classes of the sources.
        mix_weights: The weights of the sources, summing to 1 over k.
        outcomes: An `Outcome` a set, of the last pass that solved it. A mix that no solver made counts as solved if it
            meets the criterion all the same.
        num_steps: Updates of the masks that each set has had.
        natural_logits: The teacher's logits of the natural images; None if they were not needed.
        teacher_forwards: Images that the teacher passed forward for these mixes.
        teacher_backwards: Rows of input gradients that it gave.
        label_forwards: Those of `teacher_forwards` that only labelled what is shown.
        holds: Whether the teacher's top classes of `images` are the classes of the sources, for views that the masks
            were not solved on. None for exact pixels, and without a teacher.
        teacher_features: The teacher's features of exactly `images`, of the pass that gave `teacher_logits`; None if
            `FrozenTeacher` was asked for none.
        left_out: Natural images of this batch that are no source: their class was to be the teacher's, whose logits of
            them are not finite, and no label was given.
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
    natural_logits: Float[Tensor, "m n"] | None = None
    teacher_forwards: int = 0
    teacher_backwards: int = 0
    label_forwards: int = 0
    holds: Bool[Tensor, " b"] | None = None
    teacher_features: Float[Tensor, "b ..."] | None = None
    left_out: int = 0

    @classmethod
    def of(
        cls,
        sources: Float[Tensor, "b k c h w"],
        masks: Float[Tensor, "b k h w"],
        source_indices: Int[Tensor, "b k"],
        source_classes: Int[Tensor, "b k"],
        mix_weights: Float[Tensor, "b k"],
        num_classes: int,
        **known: Any,
    ) -> "MixedBatch":
        """Mix sources under masks, in their precision; as sets that nothing has solved or labelled, unless `known`."""
        unsolved = {
            "teacher_logits": None,
            "outcomes": torch.full_like(source_classes[:, 0], Outcome.CAPPED),
            "num_steps": torch.zeros_like(source_classes[:, 0]),
        }
        return cls(
            images=mix_images(sources, masks),
            masks=masks,
            soft_targets=soft_targets(source_classes, mix_weights, num_classes),
            source_indices=source_indices,
            source_classes=source_classes,
            mix_weights=mix_weights,
            **(unsolved | known),
        )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: slice) -> "MixedBatch":
        """Return some of the mixes, with the cost of all and the logits of all natural images."""
        of_mixes = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        of_mixes.pop("natural_logits", None)
        return replace(self, **{name: value[rows] for name, value in of_mixes.items()})

    @property
    def solved(self) -> Bool[Tensor, " b"]:
        """Whether the teacher saw every class of the set in the last pass that solved it (b)."""
        return self.outcomes == Outcome.SOLVED

    @property
    def non_finite(self) -> Bool[Tensor, " b"]:
        """Whether the teacher gave NaN or infinity for the set (b).

        If it did so while the set was solved, the mix is the natural image. If it did so for the view, the logits are
        those of Eq. 2.
        """
        return self.outcomes == Outcome.NON_FINITE


class Mixer(ABC):
    """Mixes each image of a batch with others of the batch. Subclass it to write a mixer of your own."""

    k: int = 2
    """Sources in a set."""
    chunk_size: int | None = None
    """Images that the teacher sees at once; None for all."""
    num_classes: int | None = None
    """n, where it was told."""
    streams: bool = False
    """Whether the stream engine can spread this mixer's work over steps."""
    needs_teacher: bool = False
    """Whether a teacher supervises the masks, so that there must be one."""

    @property
    def takes_labels(self) -> bool:
        """Whether the classes of the sources are the given labels, even if there is a teacher."""
        return False

    def with_classes(self, num_classes: int) -> "Mixer":
        """Return a mixer that knows n, for mixing without a teacher."""
        return self

    @abstractmethod
    def __call__(
        self,
        teacher: FrozenTeacher | nn.Module | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None = None,
        *,
        seed: Seed,
        view: Transform | None = None,
        natural_logits: Float[Tensor, "b n"] | None = None,
    ) -> MixedBatch:
        """Return one mix for each image. The same seed and batch give the same mixes.

        Args:
            teacher: Supervises or labels the mixes.
            images: Finite floating point images.
            labels: Class indices.
            seed: Non-negative integer, or a sequence of them.
            view: The view under which the student sees the mixes; None for the mixes as they are.
            natural_logits: The teacher's logits of `images`, if they are known already.
        """
