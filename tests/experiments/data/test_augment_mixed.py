"""The view of mixes in SuperMix + RandAugment."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from supermix_pl.experiments.data import mixed_rand_augment
from supermix_pl.transforms import RandomCropFlip

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
build = partial(mixed_rand_augment, mean=MEAN, std=STD)


def normalised(count: int) -> Tensor:
    """Images on the grid of 256 grey levels, normalised."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 12, 12))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (torch.from_numpy(pixels) / 255 - mean) / std


def seeded(transform, images: Tensor, seed: int = 0) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transform(images)


def test_chance_comes_from_torchs_generator_alone() -> None:
    images, transform = normalised(12), build()
    first = seeded(transform, images)
    np.random.default_rng().random()
    assert seeded(transform, images).equal(first)
    assert not seeded(transform, images, seed=1).equal(first)


def test_magnitude_nought_leaves_the_crop_and_flip_to_see() -> None:
    """At M = 0 three of 14 operations still change an image: two without a strength, and inverting pure white.

    The padding's mean colour lies between two grey levels.
    """
    images = normalised(200)
    views, crops = seeded(build(magnitude=0, num_ops=1, padding=3), images), seeded(RandomCropFlip(3), images)
    same = [(view - crop).abs().max() < 0.011 for view, crop in zip(views, crops, strict=True)]
    assert 0.65 < np.mean(same) < 0.95


def test_images_get_views_of_their_own() -> None:
    images = normalised(1).expand(60, -1, -1, -1)
    views = seeded(build(padding=0, flip_probability=0.0), images)
    assert len({view.numpy().tobytes() for view in views}) > 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shape_dtype_and_range_are_kept(dtype: torch.dtype) -> None:
    images = normalised(20).to(dtype)
    before = images.clone()
    views = seeded(build(), images)
    assert (views.shape, views.dtype) == (images.shape, dtype)
    assert images.equal(before)
    pixels = views.float() * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    assert -0.01 <= pixels.min() <= pixels.max() <= 1.01


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 <= magnitude <= 30, got 40"):
        build(magnitude=40)
    with pytest.raises(ValueError, match="expected padding to be an integer >= 0, got -1"):
        build(padding=-1)
