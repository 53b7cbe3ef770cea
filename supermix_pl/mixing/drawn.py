"""Sets that were drawn and not solved yet: their sources, and all that is known of them beforehand."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from supermix_pl.mixing.natural import NaturalPass
from supermix_pl.mixing.targets import soft_targets
from supermix_pl.solver import Sets
from supermix_pl.solver.criterion import class_membership
from supermix_pl.solver.rows import Rows


@dataclass(frozen=True)
class DrawnSets(Rows):
    """b sets of k sources.

    Attributes:
        sources: The natural images, in the solver's precision.
        source_indices: Rows of the batch.
        source_classes: Classes of the sources.
        mix_weights: Weights of the sources, summing to 1 over k.
        own_logits: The teacher's logits of the first source, finite: certainty of its class where it gave none.
        keys: Name the stream of chance of each set.
    """

    sources: Float[Tensor, "b k c h w"]
    source_indices: Int[Tensor, "b k"]
    source_classes: Int[Tensor, "b k"]
    mix_weights: Float[Tensor, "b k"]
    own_logits: Float[Tensor, "b n"]
    keys: Int[Tensor, " b"]

    @classmethod
    def of(
        cls,
        images: Float[Tensor, "m c h w"],
        natural: NaturalPass,
        classes: Int[Tensor, " m"],
        source_indices: Int[Tensor, "b k"],
        mix_weights: Float[Tensor, "b k"],
        keys: Int[Tensor, " b"],
    ) -> "DrawnSets":
        """Gather sets from images that the teacher was shown."""
        source_classes = classes[source_indices]
        own_logits = one_hot(source_classes[:, 0], natural.num_classes).to(images.dtype).log().clamp_min(-1e4)
        if natural.logits is not None:
            logits = natural.logits[source_indices[:, 0]]
            own_logits = torch.where(logits.isfinite().all(dim=1, keepdim=True), logits, own_logits)
        return cls(images[source_indices], source_indices, source_classes, mix_weights, own_logits, keys)

    @property
    def num_classes(self) -> int:
        """The teacher's n."""
        return self.own_logits.shape[1]

    @property
    def sets(self) -> Sets:
        """What the solver is to know of them."""
        return Sets(
            sources=self.sources,
            soft_targets=soft_targets(self.source_classes, self.mix_weights, self.num_classes),
            membership=class_membership(self.source_classes, self.num_classes),
            keys=self.keys,
        )
