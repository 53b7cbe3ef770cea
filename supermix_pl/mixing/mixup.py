"""MixUp: every source has one weight everywhere."""

from dataclasses import dataclass

import numpy as np

from supermix_pl.mixing.blind import BlindMixer, Drawn


@dataclass(frozen=True, kw_only=True)
class MixUp(BlindMixer):
    """Average every image with k - 1 others.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. For k > 2 the weights are Dirichlet. With a
    teacher its logits label the mixes; without one give `num_classes`, and use targets="soft" or "pairs". The arguments
    are those of `BlindMixer`.
    """

    def draw_masks(self, rng: np.random.Generator, count: int, k: int, size: tuple[int, int]) -> Drawn:
        """Weigh every source with its mix weight at every pixel."""
        weights = self.draw_weights(rng, count, k)
        return weights[:, :, None, None], weights
