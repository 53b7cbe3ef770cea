"""The crop-and-flip view against a plain loop over pixels."""

import numpy as np
import pytest

from supermix_pl.experiments.data import CropFlip


def slow_view(image: np.ndarray, padding: int, top: int, left: int, mirrored: int) -> np.ndarray:
    height, width = image.shape[1:]
    view = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            row, column = y + top - padding, (width - 1 - x if mirrored else x) + left - padding
            if 0 <= row < height and 0 <= column < width:
                view[:, y, x] = image[:, row, column]
    return view


@pytest.mark.parametrize(("padding", "flip", "shape"), [(4, True, (9, 9)), (2, True, (5, 8)), (1, False, (1, 1))])
def test_views_are_those_of_a_plain_loop(padding: int, flip: bool, shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (40, 3, *shape), dtype=np.uint8)
    augment = CropFlip(padding=padding, flip=flip)
    draws = augment.draw(generator, 40)
    expected = np.stack([slow_view(image, padding, *draw) for image, draw in zip(images, draws.tolist(), strict=True)])
    before = images.copy()
    np.testing.assert_array_equal(augment.apply(images, draws), expected)
    np.testing.assert_array_equal(images, before)


def test_every_offset_and_flip_is_drawn() -> None:
    draws = CropFlip(padding=2).draw(np.random.default_rng(0), 2000)
    assert {tuple(row) for row in draws.tolist()} == {(t, x, f) for t in range(5) for x in range(5) for f in range(2)}


def test_no_padding_and_no_flip_changes_nothing() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 5), dtype=np.uint8)
    augment = CropFlip(padding=0, flip=False)
    np.testing.assert_array_equal(augment.apply(images, augment.draw(np.random.default_rng(1), 6)), images)


def test_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="expected padding >= 0, got -1"):
        CropFlip(padding=-1)
