"""A training step as a stream sees it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing.views import Transform, Viewer


@dataclass(frozen=True, kw_only=True)
class Step:
    """A natural batch, and the mixes that are asked for beside it; see `Engine.mix`."""

    images: Float[Tensor, "b c h w"]
    pixels: Float[Tensor, "b c h w"]  # the images in float32 at least
    labels: Int[Tensor, " b"] | None
    logits: Float[Tensor, "b n"] | None
    view: Transform | None
    count: int  # mixes to return, >= 1
    seed: Sequence[int]
    rng: np.random.Generator  # where the draws of the step come from

    def viewer(self, transform: Transform | None, purpose: int) -> Viewer:
        """Show images under a transform; the purpose names its stream of chance."""
        return Viewer(transform, (*self.seed, purpose), self.images.dtype)
