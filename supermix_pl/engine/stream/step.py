"""A training step of a stream, as its engine is asked for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing.checks import generator
from supermix_pl.mixing.views import Transform, Viewer

_DRAWS, VISITS, REPLAYS = 1, 2, 3
"""Purposes of the chance in a step: what is drawn, and foreign views of visits and of replays."""


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

    @cached_property
    def rng(self) -> np.random.Generator:
        """Where the draws of the step come from, one after the other."""
        return generator([*self.seed, _DRAWS])

    def viewer(self, transform: Transform | None, purpose: int) -> Viewer:
        """Show images under a transform, by chance of one purpose."""
        return Viewer(transform, (*self.seed, purpose), self.images.dtype)
