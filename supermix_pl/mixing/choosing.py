"""Mixers of ours: they choose the sources of a set for each image of a batch, or take those that a stream chose."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing.checks import generator
from supermix_pl.mixing.mixer import Mixer, Seed
from supermix_pl.mixing.natural import NaturalPass, look
from supermix_pl.mixing.sampling import Pairing, draw_known_sources
from supermix_pl.solver.rows import to_device
from supermix_pl.teacher.frozen import FrozenTeacher


@dataclass(frozen=True)
class Chosen:
    """Sets whose sources were chosen.

    Attributes:
        rng: Where chance comes from.
        images: Among which the sources are, m of them.
        classes: Of the images.
        source_indices: The sources of each of b sets, in [0, m).
        teacher: Of mixers that need one.
    """

    rng: np.random.Generator
    images: Float[Tensor, "m c h w"]
    classes: Int[Tensor, " m"]
    source_indices: Int[Tensor, "b k"]
    teacher: FrozenTeacher | None

    @property
    def sources(self) -> Float[Tensor, "b k c h w"]:
        """The images of the sets."""
        return self.images[self.source_indices]


class ChoosingMixer(Mixer):
    """A mixer that either engine can give images to."""

    streams = True
    pairing: Pairing = "shift"

    def is_labelled(self, labels: Int[Tensor, " b"] | None) -> bool:
        """Return whether the classes of the sources are the given labels."""
        return labels is not None

    def classes_of(
        self,
        teacher: FrozenTeacher | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None,
        logits: Float[Tensor, "b n"] | None = None,
        *,
        with_saliency: bool = False,
    ) -> tuple[NaturalPass, Int[Tensor, " b"]]:
        """Find the class of each image: the label or the teacher's; see `look`."""
        return look(
            teacher,
            images,
            labels,
            logits,
            labelled=self.is_labelled(labels),
            num_classes=self.num_classes,
            with_saliency=with_saliency,
            chunk_size=self.chunk_size,
        )

    def choose(
        self,
        teacher: FrozenTeacher | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None,
        logits: Float[Tensor, "b n"] | None,
        seed: Seed,
        *,
        with_saliency: bool = False,
    ) -> tuple[Chosen, NaturalPass, int]:
        """Choose the sources of a set for each image, and count the images that are none, for want of a class."""
        rng = generator(seed)
        natural, classes = self.classes_of(teacher, images, labels, logits, with_saliency=with_saliency)
        labelled = self.is_labelled(labels)
        drawn, left_out = draw_known_sources(rng, classes, self.k, self.pairing, labelled=labelled)
        return Chosen(rng, images, classes, to_device(drawn, images.device), teacher), natural, left_out
