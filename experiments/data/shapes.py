"""The embedded data set: textured objects of ten shapes on cluttered, natural-looking backgrounds."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from supermix_pl.experiments.data.shape_drawing import CLASS_NAMES, Array, Poses, coverage, tight_boxes
from supermix_pl.experiments.data.shape_painting import (
    compose_background,
    develop,
    noise_fields,
    paint_textured,
    random_colours,
    twigs,
)

import json, os
H = dict(rmin=.2, rmax=.3, rot=.4, frag=2, frmin=.1, frmax=.2, twig=1, occ=.4, bgc=.14, tex=.22, noise=.04, blur=.18, opts=3, sq=.13)
H.update(json.loads(os.environ.get("H", "{}")))
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
_BLOCK = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class ShapeImages:
    images: UInt8[Tensor, "n 3 h w"]
    labels: Int64[Tensor, " n"]
    boxes: Int64[Tensor, "n 4"]


def draw_shapes(count: int, *, seed: int, size: int = 32) -> ShapeImages:
    blocks = [_draw_block(np.random.default_rng([seed, b]), size) for b in range(-(-count // _BLOCK))]
    images, labels, boxes = (torch.from_numpy(np.concatenate(p)[:count]) for p in zip(*blocks, strict=True))
    return ShapeImages(images=images, labels=labels, boxes=boxes)


def _draw_block(rng, size):
    n = _BLOCK
    labels = rng.permuted(np.tile(np.arange(len(CLASS_NAMES)), (n // len(CLASS_NAMES), 1)), axis=1).reshape(-1)
    fields = noise_fields(rng, n, 7, size)
    image = compose_background(rng, fields[:, :5])
    for torn in (fields[:, 5], -fields[:, 5], fields[:, 6])[:H['frag']]:
        poses = _random_poses(rng, n, size, inside=False)
        fragment = coverage(rng.integers(len(CLASS_NAMES), size=n), poses, _variation(rng, n), size)
        middle = (torn * fragment).sum((1, 2)) / (fragment.sum((1, 2)) + 1e-3)
        fragment *= np.clip(0.5 + 3 * (torn - middle[:, None, None]), 0, 1)
        paint_textured(rng, image, fragment, poses.angle, fields[:, 4])
    for _ in range(H['twig']):
        image += twigs(rng, n, size)[:, None] * (random_colours(rng, n)[:, :, None, None] - image)
    poses = _random_poses(rng, n, size, inside=True)
    visible = coverage(labels, poses, _variation(rng, n), size)
    paint_textured(rng, image, visible, poses.angle, fields[:, 3])
    twig = twigs(rng, n, size) * (rng.random(n) < H['occ'])[:, None, None]
    image += twig[:, None] * (random_colours(rng, n)[:, :, None, None] - image)
    boxes = tight_boxes(visible * (1 - twig) > 0.5)
    return develop(rng, image), labels, boxes


def _variation(rng, n) -> Array:
    return rng.uniform(-1, 1, n).astype(np.float32)


def _random_poses(rng, n, size, inside) -> Poses:
    radius = size * (rng.uniform(H['rmin'], H['rmax'], n) if inside else rng.uniform(H['frmin'], H['frmax'], n))
    margin = (radius * 1.05 if inside else 0.1 * size * np.ones(n))[:, None]
    centre = margin + rng.random((n, 2)) * (size - 2 * margin)
    arrays = centre, radius, rng.uniform(-1,1,n)*(H['rot'] if inside else np.pi), np.exp(rng.uniform(-1,1, n)*H['sq'])
    centre, radius, angle, squeeze = (a.astype(np.float32) for a in arrays)
    return Poses(centre=centre, radius=radius, angle=angle, squeeze=squeeze)
