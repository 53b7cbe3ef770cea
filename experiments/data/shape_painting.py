"""Colours, textures and backgrounds for drawn images; every function takes n images at once and its generator."""

import numpy as np
from numpy.typing import NDArray

import json, os
H = dict(rmin=.2, rmax=.3, rot=.4, frag=2, frmin=.1, frmax=.2, twig=1, occ=.4, bgc=.14, tex=.22, noise=.04, blur=.18, opts=3, sq=.13)
H.update(json.loads(os.environ.get('H', '{}')))
from supermix_pl.experiments.data.shape_drawing import Array


def _uniform(rng, low, high, *shape) -> Array:
    return (low + (high - low) * rng.random(shape, dtype=np.float32)).astype(np.float32)


def random_colours(rng, n, chroma=0.25) -> Array:
    hue = rng.standard_normal((n, 3), dtype=np.float32)
    hue -= hue.mean(1, keepdims=True)
    hue /= np.linalg.norm(hue, axis=1, keepdims=True) + 1e-6
    return np.clip(_uniform(rng, 0.15, 0.85, n, 1) + _uniform(rng, 0, 2 * chroma, n, 1) * hue, 0.02, 0.98)


def noise_fields(rng, n, k, size) -> Array:
    fy = np.fft.fftfreq(size)[:, None]
    fx = np.fft.rfftfreq(size)[None, :]
    f = np.hypot(fy, fx)
    f[0, 0] = 1
    exponent = rng.uniform(0.9, 1.9, (n, k, 1, 1))
    amplitude = np.exp(-exponent * np.log(f)).astype(np.float32)
    amplitude[..., 0, 0] = 0
    white = rng.standard_normal((n, k, *f.shape, 2), dtype=np.float32)
    spectrum = amplitude * (white[..., 0] + 1j * white[..., 1])
    fields = np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32)
    return fields / fields.std((2, 3), keepdims=True)


def compose_background(rng, fields) -> Array:
    n, _, size, _ = fields.shape
    a, b = (
        (_uniform(rng, .2,.8,n,1)+earthy(rng, n, 0.14))[:, :, None, None]
        + _uniform(rng, 0.05, H['bgc'], n, 1, 1, 1) * fields[:, i, None]
        + _uniform(rng, 0.02, 0.08, n, 1, 1, 1) * fields[:, i + 1, None] * earthy(rng, n, 1)[:,:,None,None]
        for i in (0, 2)
    )
    ramp = np.linspace(-1.7, 1.7, size, dtype=np.float32)
    angle = _uniform(rng, 0, 2 * np.pi, n, 1, 1)
    slope = np.cos(angle) * ramp[:, None] + np.sin(angle) * ramp
    split = np.clip(0.5 + _uniform(rng, 0.5, 3, n, 1, 1) * (slope + fields[:, 4] + _uniform(rng, -1, 1, n, 1, 1)), 0, 1)
    image = a + split[:, None] * (b - a)
    return image * (1 + _uniform(rng, -0.25, 0.25, n, 1, 1, 1) * slope[:, None])


def _hues(rng, n):
    h = rng.standard_normal((n, 3, 1, 1), dtype=np.float32)
    return h - h.mean(1, keepdims=True)

def earthy(rng, n, spread):
    w = rng.standard_normal((n, 2), dtype=np.float32) * np.float32([1, .3])
    return (w @ np.float32([[.7, .1, -.8], [-.5, .8, -.3]]) * spread)


def paint_textured(rng, image, cover, angle, noise) -> None:
    n, _, size, _ = image.shape
    u, v, = _waves(rng, n, size)
    kind = rng.integers(4, size=n)[:, None, None]
    pattern = np.select([kind == 0, kind == 1, kind == 2], [3 * u, 5 * u * v, 3 * (u + v) - 1.5], noise)
    pattern = np.clip(0.5 + pattern, 0, 1)[:, None]
    weight = cover.sum((1, 2))[:, None] + 1e-3
    beneath = (image * cover[:, None]).sum((2, 3)) / weight
    options = np.stack([random_colours(rng, n) for _ in range(H['opts'])])
    best = np.square(options - beneath).sum(2).argmax(0)
    first = options[best, np.arange(n)]
    second = np.clip(first + _uniform(rng, 0.5*H['tex'], H['tex'], n, 1) * np.where(rng.random((n, 1)) < 0.5, -1, 1) + 0.3 * _hues(rng, n)[:, :, 0, 0]*0.5, 0.02, 0.98)
    first, second = first[:, :, None, None], second[:, :, None, None]
    paint = first + pattern * (second - first)
    paint *= 1 + 0.1 * np.clip(noise, -2, 2)[:, None]
    image += cover[:, None] * (paint - image)


def _waves(rng, n, size):
    grid = np.arange(size, dtype=np.float32)
    angle = _uniform(rng, 0, 2 * np.pi, n, 1, 1)
    w = 2 * np.pi / _uniform(rng, 3, 7, n, 1, 1)
    cos, sin = w * np.cos(angle), w * np.sin(angle)
    x, y = grid, grid[:, None]
    p = _uniform(rng, 0, 2 * np.pi, 2, n, 1, 1)
    return np.sin(x * cos + y * sin + p[0]), np.sin(y * cos - x * sin + p[1])


def twigs(rng, n, size) -> Array:
    grid = np.arange(size, dtype=np.float32) + 0.5
    through = _uniform(rng, 0, size, 2, n, 1, 1)
    angle = _uniform(rng, 0, 2 * np.pi, n, 1, 1)
    bend = size * _uniform(rng, 0.6, 3, n, 1, 1)
    half_width = _uniform(rng, 0.4, 1.1, n, 1, 1) * size / 32
    x, y = grid - through[0], grid[:, None] - through[1]
    cos, sin = np.cos(angle), np.sin(angle)
    distance = np.abs(np.hypot(x - bend * cos, y - bend * sin) - bend) - half_width
    end = x * sin - y * cos
    return np.clip(0.5 - np.maximum(distance, end), 0, 1)


def develop(rng, image) -> NDArray[np.uint8]:
    n, _, size, _ = image.shape
    image = image * _uniform(rng, 0.75, 1.2, n, 1, 1, 1) + _uniform(rng, -0.08, 0.08, n, 1, 1, 1)
    blur = _uniform(rng, 0, H['blur'], n, 1, 1, 1)
    for axis in (2, 3):
        lo, hi = [slice(None)] * 4, [slice(None)] * 4
        lo[axis], hi[axis] = slice(None, -1), slice(1, None)
        step = blur * (image[tuple(hi)] - image[tuple(lo)])
        image[tuple(lo)] += step
        image[tuple(hi)] -= step
    image += _uniform(rng, 0, H['noise'], n, 1, 1, 1) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
