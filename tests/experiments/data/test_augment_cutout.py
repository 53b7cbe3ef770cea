"""Cutout against a plain loop, and how much it covers."""

import numpy as np
import pytest
import torch

from supermix_pl.experiments.data import Cutout
from supermix_pl.experiments.data.pixels import Normalisation

FILL = np.array([10, 20, 30], dtype=np.uint8)


def slow_cutout(image: np.ndarray, row: int, column: int, size: int) -> np.ndarray:
    view, half = image.copy(), size // 2
    for y in range(row - half, row + half):
        for x in range(column - half, column + half):
            if 0 <= y < image.shape[1] and 0 <= x < image.shape[2]:
                view[:, y, x] = FILL
    return view


@pytest.mark.parametrize(("size", "shape"), [(16, (32, 32)), (4, (9, 5)), (5, (8, 8)), (1, (6, 6)), (40, (8, 12))])
def test_squares_are_those_of_a_plain_loop(size: int, shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(40, 256, (60, 3, *shape), dtype=np.uint8))
    cutout = Cutout(size=size)
    draws = cutout.draw(generator, 60)
    centres = (draws * shape).astype(int).tolist()
    expected = [
        slow_cutout(image, row, column, size) for image, (row, column) in zip(images.numpy(), centres, strict=True)
    ]
    before = images.clone()
    np.testing.assert_array_equal(cutout.apply(images, draws, fill=FILL), np.stack(expected))
    np.testing.assert_array_equal(images, before)


def test_area_and_places_are_those_of_a_uniform_centre() -> None:
    """A side of 16 in 32 pixels covers 14 on average, since the centre may be anywhere: 196 of 1024 pixels."""
    images = torch.full((4000, 3, 32, 32), 255, dtype=torch.uint8)
    cutout = Cutout(size=16)
    covered = (cutout.apply(images, cutout.draw(np.random.default_rng(0), 4000), fill=FILL) != 255)[:, 0].numpy()
    areas = covered.sum((1, 2))
    assert areas.mean() == pytest.approx(196, abs=3)
    assert (areas.min(), areas.max()) == (64, 256)
    share = covered.mean(0)
    assert share[16, 16] == pytest.approx(0.25, abs=0.03)
    assert share[0, 0] == pytest.approx((9 / 32) ** 2, abs=0.02)
    assert share[31, 31] == pytest.approx((8 / 32) ** 2, abs=0.02)


def test_the_colour_is_nought_after_normalisation() -> None:
    mean, std = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    normalised = (Normalisation(mean, std).mean_pixel / 255 - mean) / std
    assert np.abs(normalised).max() <= 0.5 / 255 / min(std)


def test_the_global_generators_are_left_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    images, cutout = torch.zeros(3, 3, 8, 8, dtype=torch.uint8), Cutout(size=4)
    cutout.apply(images, cutout.draw(np.random.default_rng(0), 3), fill=FILL)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_size_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="expected size to be an integer >= 1, got 0"):
        Cutout(size=0)
