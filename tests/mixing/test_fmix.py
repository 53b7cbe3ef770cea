"""FMix against its formula written out, pixel by pixel."""

import numpy as np
import pytest

from supermix_pl import FMix
from supermix_pl.mixing.sampling import draw_weights


def test_masks_are_those_of_the_formula() -> None:
    height, width, count, power = 5, 6, 4, 2.5
    masks, weights = FMix(decay_power=power).draw_masks(np.random.default_rng(0), count, 2, (height, width))
    rng = np.random.default_rng(0)
    shares = draw_weights(rng, count, 2, 1.0)[:, 0]
    real, imaginary = rng.standard_normal((2, count, height, width))
    for number in range(count):
        grey = np.zeros((height, width))
        for u in range(height):
            for v in range(width):
                if (u, v) == (0, 0):
                    continue
                frequency = np.hypot(min(u, height - u) / height, min(v, width - v) / width)
                for y in range(height):
                    for x in range(width):
                        wave = np.exp(2j * np.pi * (u * y / height + v * x / width))
                        noise = real[number, u, v] + 1j * imaginary[number, u, v]
                        grey[y, x] += (noise / frequency**power * wave).real
        top = round(shares[number] * height * width)
        own = np.zeros(height * width)
        own[np.argsort(grey.ravel())[height * width - top :]] = 1
        np.testing.assert_array_equal(masks[number, 0], own.reshape(height, width))
        np.testing.assert_allclose(weights[number], [top / 30, 1 - top / 30])


@pytest.mark.parametrize(("power", "most"), [(1.0, 0.30), (3.0, 0.09), (5.0, 0.06)])
def test_a_larger_decay_power_gives_masks_with_fewer_borders(power: float, most: float) -> None:
    masks, weights = FMix(alpha=1e4, decay_power=power).draw_masks(np.random.default_rng(0), 64, 2, (32, 32))
    assert abs(weights - 0.5).max() < 0.03
    borders = (np.diff(masks[:, 0], axis=1) != 0).mean()
    assert 0.5 * most < borders < most  # 0.5 for noise
