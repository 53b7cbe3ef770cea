"""ResizeMix: another image is made small and pasted on the image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from supermix_pl.arguments import check_interval
from supermix_pl.mixing.blind import Chosen, Composed, DirectMixer
from supermix_pl.solver.rows import to_device


@dataclass(frozen=True, kw_only=True)
class ResizeMix(DirectMixer):
    """Make another image smaller and paste all of it on every image, at a random place.

    Qin et al., "ResizeMix: Mixing Data with Preserved Object Information and True Labels", 2020. The sides of the small
    image are tau times those of the image, where tau is uniform in `scale`. Its weight is the area that it covers,
    about tau squared. The masks are 0 and 1. k is 2.

    Deviation: the paper does not say how images are resized. Here it is bilinear, with a filter as wide as the
    reduction (antialiased), to whole pixels.

    Args:
        scale: Least and largest tau, 0 < least <= largest <= 1.

    The other arguments, and the errors, are those of `DirectMixer`.
    """

    scale: Sequence[float] = (0.1, 0.8)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", check_interval("scale", self.scale))
        if self.scale[1] > 1:
            raise ValueError(f"expected scale in (0, 1], as shares of the image's sides, got {self.scale}")
        super().__post_init__()

    def place(self, chosen: Chosen) -> Composed:
        """Resize the second sources; they are 0 outside their box."""
        rng, images = chosen.rng, chosen.images
        tau = rng.uniform(*self.scale, size=len(chosen.source_indices))
        (rows, in_rows), (columns, in_columns) = (_interval(rng, tau, length) for length in images.shape[2:])
        box = to_device(in_rows[:, :, None] & in_columns[:, None, :], images.device, images.dtype)
        own, other = chosen.sources.unbind(dim=1)
        down, right = (to_device(axis, images.device, images.dtype)[:, None] for axis in (rows, columns))
        return Composed.of(torch.stack([own, down @ other @ right.mT], dim=1), torch.stack([1 - box, box], dim=1))


def _interval(
    rng: np.random.Generator, tau: Float[np.ndarray, " b"], length: int
) -> tuple[Float[np.ndarray, "b length length"], Bool[np.ndarray, "b length"]]:
    """Place an interval along one side; give the weights that resize the side to it, and where it is."""
    extent = np.round(tau * length).clip(1).astype(np.int64)[:, None]
    start = rng.integers(0, length - extent, endpoint=True)
    pixels = np.arange(length)
    inside = (pixels >= start) & (pixels < start + extent)
    reduction = (length / extent)[:, :, None]
    centres = (pixels - start + 0.5)[:, :, None] * reduction
    weights = (1 - np.abs(centres - (pixels + 0.5)) / reduction).clip(0) * inside[:, :, None]
    return weights / np.maximum(weights.sum(axis=2, keepdims=True), np.finfo(float).tiny), inside
