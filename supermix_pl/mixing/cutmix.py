"""CutMix: boxes of the other sources are pasted on the image."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from supermix_pl.mixing.blind import BlindMixer, Drawn


@dataclass(frozen=True, kw_only=True)
class CutMix(BlindMixer):
    """Paste a box of each of k - 1 other images on every image.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019. A
    box has the proportions of the image, covers a share of it that is its source's weight, and lies inside it. For k >
    2 the boxes are pasted one after the other. The weights of the mix are the areas that stay visible. The arguments
    are those of `BlindMixer`.
    """

    def draw_masks(self, rng: np.random.Generator, count: int, k: int, size: tuple[int, int]) -> Drawn:
        """Paste the boxes; the weights become the visible areas."""
        weights = self.draw_weights(rng, count, k)
        owner = np.zeros((count, *size), dtype=np.int64)
        for source in range(1, k):
            share = np.sqrt(weights[:, source])
            rows, columns = (_interval(rng, share, length) for length in size)
            owner[rows[:, :, None] & columns[:, None, :]] = source
        masks = (owner[:, None] == np.arange(k)[:, None, None]).astype(np.float64)
        return masks, masks.mean(axis=(2, 3))


def _interval(rng: np.random.Generator, share: Float[np.ndarray, " b"], length: int) -> np.ndarray:
    """Place an interval of a share of the pixels along one side, uniformly among the places inside it."""
    extent = np.round(share * length).astype(np.int64)
    start = rng.integers(0, length - extent, endpoint=True)
    pixels = np.arange(length)
    return (pixels >= start[:, None]) & (pixels < (start + extent)[:, None])
