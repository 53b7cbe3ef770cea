"""The view of mixed images in "SuperMix + RandAugment", for `SuperMixCallback(mixed_transform=...)`."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from supermix_pl.experiments.data.pixels import Normalisation
from supermix_pl.experiments.data.policies import RandAugment
from supermix_pl.transforms import RandomCropFlip


class MixedRandAugment:
    """Crop and flip of every mix, then RandAugment on its pixels.

    The images are de-normalised, rounded to 0 ... 255, and normalised again. Chance comes from torch's global
    generator, as in `RandomCropFlip`; inside the callback that one is seeded for the batch and put back afterwards.

    Args:
        mean: Mean of each channel on the scale [0, 1], what the batch is normalised with.
        std: Standard deviation of each channel, likewise.
        num_ops: N of `RandAugment`.
        magnitude: M of `RandAugment`, of 30.
        padding: Pixels of padding before the crop.
        flip_probability: Share of the images that are mirrored.
    """

    def __init__(
        self,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        num_ops: int = 2,
        magnitude: int = 14,
        padding: int = 2,
        flip_probability: float = 0.5,
    ) -> None:
        self._crop_flip = RandomCropFlip(padding, flip_probability)
        self._policy = RandAugment(num_ops=num_ops, magnitude=magnitude)
        self._normalisation = Normalisation(mean, std)

    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return the views of normalised images."""
        pixels = self._normalisation.pixels(self._crop_flip(images))
        draws = self._policy.draw(np.random.default_rng(int(torch.randint(2**63 - 1, ()))), len(images))
        return self._normalisation.normalise(self._policy.apply(pixels, draws)).to(images.dtype)
