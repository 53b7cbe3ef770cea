"""The embedded data set: textured objects of ten shapes on cluttered, natural-looking backgrounds, drawn on demand."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from supermix_pl.arguments import check_at_least
from supermix_pl.experiments.data.datamodule import ImageDataModule, Opened
from supermix_pl.experiments.data.shape_drawing import CLASS_NAMES, Array, Poses, coverage
from supermix_pl.experiments.data.shape_painting import (
    cover,
    develop,
    draw_background,
    draw_textured,
    noise_fields,
    twigs,
    uniform,
    vivid_colours,
)

# Per channel, of 20 000 images of seed 0 in [0, 1].
MEAN = (0.4880, 0.4884, 0.4861)
STD = (0.2311, 0.2181, 0.2346)

# Images are drawn a block at a time, each from its own generator, and the last block is drawn whole and cut:
# so image i of a seed is the same for every count. Changing the block size changes the data.
_BLOCK = 100
_MIN_SIZE = 16
_OCCLUDED = 0.4


@dataclass(frozen=True, kw_only=True, eq=False)
class ShapeImages:
    """Drawn images."""

    images: UInt8[Tensor, "n 3 h w"]  # RGB, 0 to 255
    labels: Int64[Tensor, " n"]  # indices into ``CLASS_NAMES``


@dataclass(kw_only=True, eq=False, repr=False)
class Shapes(ImageDataModule):
    """Textured objects of ten shapes on cluttered backgrounds; `data_seed` also chooses the drawings."""

    train_size: int = 5000  # number of training images
    test_size: int = 1000  # number of test images
    size: int = 32  # height and width of the images in pixels

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("train_size", self.train_size, 1)
        check_at_least("test_size", self.test_size, 1)

    def open_data(self) -> Opened:
        drawn = [
            draw_shapes(count, seed=2 * (self.data_seed or 0) + part, size=self.size)
            for part, count in enumerate((self.train_size, self.test_size))
        ]
        train, test = ((part.images.numpy(), part.labels.numpy()) for part in drawn)
        return self._opened_arrays(train=train, test=test, class_names=list(CLASS_NAMES), mean=MEAN, std=STD)


def draw_shapes(count: int, *, seed: int, size: int = 32) -> ShapeImages:
    """Draw labelled images of one textured object each, the same for the same seed whatever the count, from 1.

    The class is the outline alone; colours, texture, place, scale, tilt, proportions and surroundings are random.
    Every ten images in a row hold each class once. Seeds are from 0, sizes in pixels from 16.

    >>> data = draw_shapes(4, seed=0)
    >>> data.images.shape, data.labels.shape
    (torch.Size([4, 3, 32, 32]), torch.Size([4]))
    """
    for name, value, least in (("count", count, 1), ("seed", seed, 0), ("size", size, _MIN_SIZE)):
        check_at_least(name, value, least)
    blocks = [_draw_block(np.random.default_rng([seed, block]), size) for block in range(-(-count // _BLOCK))]
    images, labels = (torch.from_numpy(np.concatenate(part)[:count]) for part in zip(*blocks, strict=True))
    return ShapeImages(images=images, labels=labels)


def _draw_block(rng: Generator, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw background, torn pieces of other shapes, a twig, the object and at times a twig in front of it."""
    n, classes = _BLOCK, len(CLASS_NAMES)
    labels = rng.permuted(np.tile(np.arange(classes), (n // classes, 1)), axis=1).reshape(-1)
    fields = noise_fields(rng, n, 6, size)
    image, tear = draw_background(rng, fields[:, :5]), fields[:, 5]
    for noise in (tear, -tear):
        image = draw_textured(rng, image, _torn_pieces(rng, noise), fields[:, 4])
    image = cover(image, twigs(rng, n, size), vivid_colours(rng, n)[:, :, None, None])
    outline = coverage(labels, _random_poses(rng, n, size, (0.22, 0.31), tilt=0.18), uniform(rng, -1.0, 1.0, n), size)
    image = draw_textured(rng, image, outline, tear)
    twig = twigs(rng, n, size) * (rng.random(n) < _OCCLUDED)[:, None, None]
    return develop(rng, cover(image, twig, vivid_colours(rng, n)[:, :, None, None])), labels


def _torn_pieces(rng: Generator, noise: Array) -> Array:
    """Opacity of small random shapes, about half of each torn away where the noise is low in it."""
    n, size = noise.shape[:2]
    poses = _random_poses(rng, n, size, (0.1, 0.2), tilt=np.pi)
    whole = coverage(rng.integers(len(CLASS_NAMES), size=n), poses, uniform(rng, -1.0, 1.0, n), size)
    middle = (whole * noise).sum((1, 2), keepdims=True) / (whole.sum((1, 2), keepdims=True) + 1e-3)
    return whole * np.clip(0.5 + 3 * (noise - middle), 0, 1)


def _random_poses(rng: Generator, n: int, size: int, radius: tuple[float, float], tilt: float) -> Poses:
    """Poses wholly inside the image, with radii as fractions of its size and tilts of at most ``tilt`` radians."""
    radii, squeeze = size * uniform(rng, *radius, n), np.exp(uniform(rng, -0.13, 0.13, n))
    margin = (radii * np.maximum(squeeze, 1 / squeeze))[:, None]
    centre = margin + uniform(rng, 0.0, 1.0, n, 2) * (size - 2 * margin)
    return Poses(centre=centre, radius=radii, angle=uniform(rng, -tilt, tilt, n), squeeze=squeeze)
