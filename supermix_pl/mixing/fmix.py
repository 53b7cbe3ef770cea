"""FMix: masks of any shape, with soft outlines, from noise of low frequency."""

from dataclasses import dataclass, field

import numpy as np

from supermix_pl.arguments import check_positive
from supermix_pl.mixing.blind import BlindMixer, Drawn


@dataclass(frozen=True, kw_only=True)
class FMix(BlindMixer):
    """Give every image the places where noise of low frequency is high, and another image the rest.

    Harris et al., "FMix: Enhancing Mixed Sample Data Augmentation", 2020. A grey image is the real part of the inverse
    Fourier transform of complex Gaussian noise, each coefficient divided by its frequency to the power `decay_power`.
    Its lambda h w highest pixels show the image itself, where lambda is drawn from Beta(alpha, alpha). The masks are 0
    and 1. k is 2.

    Deviation: lambda h w is rounded to whole pixels, and the weights of the mix are the areas. The coefficient of
    frequency 0 moves all pixels alike, so it does not matter.

    Args:
        alpha: Of the Beta distribution of lambda, > 0.
        decay_power: delta, > 0: a larger one gives larger and smoother regions.

    The other arguments, and the errors, are those of `DirectMixer`.
    """

    k: int = field(default=2, init=False, repr=False)
    decay_power: float = 3.0

    def __post_init__(self) -> None:
        check_positive("decay_power", self.decay_power)
        super().__post_init__()

    def draw_masks(self, rng: np.random.Generator, count: int, k: int, size: tuple[int, int]) -> Drawn:
        """Draw the grey images, and cut them where the weights say."""
        weights = self.draw_weights(rng, count, k)
        frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(length) for length in size), indexing="ij"))
        frequency[0, 0] = 1.0
        noise = rng.standard_normal((2, count, *size))
        grey = np.fft.ifft2((noise[0] + 1j * noise[1]) / frequency**self.decay_power).real.reshape(count, -1)
        ranks = grey.argsort(axis=1).argsort(axis=1)
        own = (ranks >= grey.shape[1] - np.round(weights[:, :1] * grey.shape[1])).reshape(count, *size)
        masks = np.stack([own, ~own], axis=1).astype(np.float64)
        return masks, masks.mean(axis=(2, 3))
