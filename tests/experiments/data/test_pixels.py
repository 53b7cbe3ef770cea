"""Pixels to normalised images and back."""

import pytest
import torch

from supermix_pl.experiments.data.pixels import Normalisation

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
LEVELS = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, -1, -1)


def test_an_image_is_normalised_channel_by_channel() -> None:
    images = Normalisation(MEAN, STD).normalise(LEVELS)
    assert images.dtype == torch.float32
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        torch.testing.assert_close(images[1, channel], (LEVELS[1, channel].double() / 255 - mean).div(std).float())


def test_every_grey_level_comes_back() -> None:
    normalisation = Normalisation(MEAN, STD)
    assert normalisation.pixels(normalisation.normalise(LEVELS)).equal(LEVELS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_beyond_black_and_white_is_cut_off_and_the_images_stay(dtype: torch.dtype) -> None:
    images = torch.tensor([-9.0, 9.0], dtype=dtype).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert Normalisation(MEAN, STD).pixels(images).tolist() == [[[[0, 255]]] * 3]
    assert images[0, 0, 0].tolist() == [-9.0, 9.0]


def test_gradients_pass_although_a_validation_asked_first() -> None:
    normalisation = Normalisation((0.1, 0.2, 0.3), (0.3, 0.2, 0.1))
    with torch.inference_mode():
        images = normalisation.normalise(LEVELS)
    assert normalisation.pixels(images.clone().requires_grad_()).equal(LEVELS)
