"""A training step as a stream sees it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing.views import Transform, Viewer


@dataclass(frozen=True, kw_only=True)
class Step:
    """A natural batch, and the mixes that are asked for beside it.

    Attributes:
        images: The natural images, as the user has them.
        pixels: The same, in float32 at least.
        labels: Their class indices in [0, n), if there are any.
        logits: The teacher's, of them, if they are known.
        view: What the student sees mixes under; None for the mixes as they are.
        count: Mixes to return, >= 1.
        seed: Of the batch.
        rng: Where the draws of the step come from.
    """

    images: Float[Tensor, "b c h w"]
    pixels: Float[Tensor, "b c h w"]
    labels: Int[Tensor, " b"] | None
    logits: Float[Tensor, "b n"] | None
    view: Transform | None
    count: int
    seed: Sequence[int]
    rng: np.random.Generator

    def viewer(self, transform: Transform | None, purpose: int) -> Viewer:
        """Show images under a transform; the purpose names its stream of chance."""
        return Viewer(transform, (*self.seed, purpose), self.images.dtype)
