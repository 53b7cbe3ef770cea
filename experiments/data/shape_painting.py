"""Colours, textures and surroundings of drawn images, n at once, from the generator given."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from supermix_pl.experiments.data.shape_drawing import Array

_TEXTURES = 4
_COLOURS_TRIED = 5
# Natural scenes vary most from blue to yellow and little from green to magenta.
_BLUE_YELLOW = np.array([0.7, 0.1, -0.8], np.float32)
_GREEN_MAGENTA = np.array([-0.5, 0.8, -0.3], np.float32)


def uniform(rng: Generator, low: float, high: float, *shape: int) -> Array:
    """Draw float32 numbers between ``low`` and ``high``."""
    return np.float32(low) + np.float32(high - low) * rng.random(shape, dtype=np.float32)


def vivid_colours(rng: Generator, n: int) -> Array:
    """Draw (n, 3) colours of any hue, lightness and saturation."""
    hue = rng.standard_normal((n, 3), dtype=np.float32)
    hue -= hue.mean(1, keepdims=True)
    hue /= np.linalg.norm(hue, axis=1, keepdims=True) + 1e-6
    return np.clip(uniform(rng, 0.15, 0.85, n, 1) + uniform(rng, 0.0, 0.5, n, 1) * hue, 0.02, 0.98)


def noise_fields(rng: Generator, n: int, k: int, size: int) -> Array:
    """Draw (n, k, size, size) fields of mean 0 and variance 1 with amplitudes 1 / f^a, a from 0.9 to 1.9."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)).astype(np.float32)
    frequency[0, 0] = np.inf
    amplitude = np.exp(-uniform(rng, 0.9, 1.9, n, k, 1, 1) * np.log(frequency))
    white = rng.standard_normal((n, k, *frequency.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    fields = np.fft.irfft2(amplitude * white, s=(size, size)).astype(np.float32, copy=False)
    return fields / fields.std((2, 3), keepdims=True)


def cover(image: Array, opacity: Array, paint: Array) -> Array:
    """Lay ``paint``, (n, 3, h, w) or (n, 3, 1, 1), over the images with opacities (n, h, w) in [0, 1]."""
    return image + opacity[:, None] * (paint - image)


def draw_background(rng: Generator, fields: Array) -> Array:
    """Draw two earthy materials, divided along a ragged line and lit from one side: (n, 3, h, h), about [0, 1].

    The fields (n, 5, h, h) are noise: lightness and tint of either material, and the dividing line.
    """
    n, _, size, _ = fields.shape
    ground, sky = (
        (uniform(rng, 0.2, 0.8, n, 1) + _earthy_tints(rng, n, 0.14))[:, :, None, None]
        + uniform(rng, 0.04, 0.13, n, 1, 1, 1) * lightness[:, None]
        + _earthy_tints(rng, n, 0.06)[:, :, None, None] * tint[:, None]
        for lightness, tint in ((fields[:, 0], fields[:, 1]), (fields[:, 2], fields[:, 3]))
    )
    angle = uniform(rng, 0.0, 2 * np.pi, n, 1, 1)
    ramp = np.linspace(-1.7, 1.7, size, dtype=np.float32)
    slope = np.cos(angle) * ramp[:, None] + np.sin(angle) * ramp
    sharpness, shift = uniform(rng, 0.5, 3.0, n, 1, 1), uniform(rng, -1.0, 1.0, n, 1, 1)
    image = cover(ground, np.clip(0.5 + sharpness * (slope + fields[:, 4] + shift), 0, 1), sky)
    return image * (1 + uniform(rng, -0.25, 0.25, n, 1, 1, 1) * slope[:, None])


def draw_textured(rng: Generator, image: Array, opacity: Array, noise: Array) -> Array:
    """Paint shapes, of opacities (n, h, h), on images (n, 3, h, h): stripes, checks, dots or blotches of two colours.

    The first colour is the one, of a few drawn, that differs most from what the shape covers. The noise (n, h, h) gives
    blotches and unevenness.
    """
    n = len(image)
    u, v = _crossed_waves(rng, n, image.shape[-1])
    texture = rng.integers(_TEXTURES, size=n)[:, None, None]
    pattern = np.select([texture == 0, texture == 1, texture == 2], [3 * u, 5 * u * v, 3 * (u + v) - 1.5], noise)
    beneath = np.einsum("nchw,nhw->nc", image, opacity) / (opacity.sum((1, 2))[:, None] + 1e-3)
    tried = np.stack([vivid_colours(rng, n) for _ in range(_COLOURS_TRIED)])
    first = tried[np.square(tried - beneath).sum(2).argmax(0), np.arange(n)]
    contrast = uniform(rng, 0.08, 0.18, n, 1) * rng.choice(np.array([-1, 1], np.float32), (n, 1))
    second = np.clip(first + contrast + 0.08 * rng.standard_normal((n, 3), dtype=np.float32), 0.02, 0.98)
    first, second = first[:, :, None, None], second[:, :, None, None]
    paint = first + np.clip(0.5 + pattern, 0, 1)[:, None] * (second - first)
    return cover(image, opacity, paint * (1 + 0.1 * np.clip(noise, -2, 2))[:, None])


def twigs(rng: Generator, n: int, size: int) -> Array:
    """Draw the opacities (n, size, size) of one thin arc each, from a random point out of the image."""
    scale = size / 32
    grid = np.arange(size, dtype=np.float32) + 0.5
    end_x, end_y = uniform(rng, 0.0, float(size), 2, n, 1, 1)
    angle = uniform(rng, 0.0, 2 * np.pi, n, 1, 1)
    bend, half_width = uniform(rng, 0.6 * size, 3.0 * size, n, 1, 1), uniform(rng, 0.4 * scale, 1.1 * scale, n, 1, 1)
    x, y = grid - end_x, grid[:, None] - end_y
    cos, sin = np.cos(angle), np.sin(angle)
    distance = np.abs(np.hypot(x - bend * cos, y - bend * sin) - bend) - half_width
    return np.clip(0.5 - np.maximum(distance, x * sin - y * cos), 0, 1)


def develop(rng: Generator, image: Array) -> NDArray[np.uint8]:
    """Photograph the images (n, 3, h, w): random exposure, a slight blur of reach one pixel, sensor noise, 8 bits."""
    n = len(image)
    image = image * uniform(rng, 0.75, 1.2, n, 1, 1, 1) + uniform(rng, -0.08, 0.08, n, 1, 1, 1)
    spill = uniform(rng, 0.0, 0.18, n, 1, 1, 1)
    for axis in (2, 3):
        flow = spill * np.diff(image, axis=axis)
        before, after = [(0, 0)] * 4, [(0, 0)] * 4
        before[axis], after[axis] = (0, 1), (1, 0)
        image = image + np.pad(flow, before) - np.pad(flow, after)
    image += uniform(rng, 0.0, 0.03, n, 1, 1, 1) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def _earthy_tints(rng: Generator, n: int, spread: float) -> Array:
    weights = np.float32(spread) * rng.standard_normal((n, 2), dtype=np.float32)
    return weights[:, :1] * _BLUE_YELLOW + 0.3 * weights[:, 1:] * _GREEN_MAGENTA


def _crossed_waves(rng: Generator, n: int, size: int) -> tuple[Array, Array]:
    grid = np.arange(size, dtype=np.float32)
    angle = uniform(rng, 0.0, 2 * np.pi, n, 1, 1)
    frequency = 2 * np.pi / uniform(rng, 3 * size / 32, 7 * size / 32, n, 1, 1)
    cos, sin = frequency * np.cos(angle), frequency * np.sin(angle)
    phases = uniform(rng, 0.0, 2 * np.pi, 2, n, 1, 1)
    x, y = grid, grid[:, None]
    return np.sin(x * cos + y * sin + phases[0]), np.sin(y * cos - x * sin + phases[1])
