"""Outlines of the ten classes as signed distances, and how they are placed on the pixel grid."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]  # float32 at run time: numpy's stubs widen most results


def _ring(x: Array, y: Array, v: Array) -> Array:
    width = 0.2 + 0.08 * v
    return np.abs(np.hypot(x, y) - (0.97 - width)) - width


def _star(x: Array, y: Array, v: Array) -> Array:
    """Five tips at radius 1; folded to half a tip, its edge is one line to the inner corner."""
    radius, sector = np.hypot(x, y), 2 * np.pi / 5
    angle = np.abs((np.arctan2(y, x) + sector / 2) % sector - sector / 2)
    inner = 0.4 + 0.08 * v
    dx, dy = inner * np.cos(sector / 2) - 1, inner * np.sin(sector / 2)
    return ((radius * np.cos(angle) - 1) * dy - radius * np.sin(angle) * dx) / np.hypot(dx, dy)


def _cross(x: Array, y: Array, v: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 0.92, np.minimum(x, y) - (0.27 + 0.06 * v))


def _heart(x: Array, y: Array, v: Array) -> Array:
    """A square on its corner with a disk on each of the two upper sides."""
    x = np.abs(x)
    side = 0.5
    corner = np.maximum(x * 0.7071 + (y - 0.2) * 0.7071, x * 0.7071 - (y - 0.2) * 0.7071) - side
    return np.minimum(corner, np.hypot(x - side * 0.7071, y - 0.2 + side * 0.7071) - side)


def _hourglass(x: Array, y: Array, v: Array) -> Array:
    waist = 0.07 + 0.05 * v
    return np.maximum(np.abs(y) - 0.77, (np.abs(x) - waist - np.abs(y) * 0.75) * 0.8)


def _arrow(x: Array, y: Array, v: Array) -> Array:
    """A triangular head towards +x and a shaft behind it."""
    y = np.abs(y)
    head = np.maximum((x - 1) * 0.66 + y * 0.75, -0.05 - x)
    shaft = np.maximum(np.abs(x + 0.45) - 0.5, y - (0.24 + 0.05 * v))
    return np.minimum(head, shaft)


_OUTLINES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "disk": lambda x, y, v: np.hypot(x, y) - 0.93,
    "ring": _ring,
    "square": lambda x, y, v: np.maximum(np.abs(x), np.abs(y)) - 0.7,
    "triangle": lambda x, y, v: np.maximum(np.abs(x) * 0.866 - y * 0.5, y) - 0.5,
    "star": _star,
    "cross": _cross,
    "crescent": lambda x, y, v: np.maximum(np.hypot(x, y) - 0.97, 0.78 - np.hypot(x - 0.48 - 0.08 * v, y)),
    "heart": _heart,
    "hourglass": _hourglass,
    "arrow": _arrow,
}
CLASS_NAMES = tuple(_OUTLINES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Poses:
    """Where n outlines lie on a square grid."""

    centre: Array  # (n, 2), x and y in pixels; a pixel's centre lies at its index plus one half
    radius: Array  # (n,), pixels that one unit of the outline takes; outlines fit about the unit circle
    angle: Array  # (n,), radians, from x towards y
    squeeze: Array  # (n,), the outline is this much longer along its x axis and shorter along its y axis, 1 for neither

    def to_outline(self, size: int) -> tuple[Array, Array]:
        """Return x and y of every pixel centre in the outlines' own coordinates, each (n, size, size)."""
        grid = np.arange(size, dtype=np.float32) + 0.5
        x = grid[None, None, :] - self.centre[:, 0, None, None]
        y = grid[None, :, None] - self.centre[:, 1, None, None]
        cos, sin = (f(self.angle)[:, None, None] for f in (np.cos, np.sin))
        x_unit = (self.radius * self.squeeze)[:, None, None]
        y_unit = (self.radius / self.squeeze)[:, None, None]
        return (x * cos + y * sin) / x_unit, (y * cos - x * sin) / y_unit


def signed_distance(labels: NDArray[np.int64], x: Array, y: Array, variation: Array) -> Array:
    """Distance of points (n, h, w) to the outlines of their classes (n,), below 0 inside: exact near edges only.

    x, y (downwards) and the result are in units of the outline; the variation (n,), in [-1, 1], is the width of a ring.
    """
    distance = np.empty_like(x)
    for label, outline in enumerate(_OUTLINES.values()):
        rows = labels == label
        distance[rows] = outline(x[rows], y[rows], variation[rows, None, None])
    return distance


def coverage(labels: NDArray[np.int64], poses: Poses, variation: Array, size: int) -> Array:
    """Fraction of every pixel that the placed outlines cover, (n, size, size) in [0, 1], with smooth edges."""
    distance = signed_distance(labels, *poses.to_outline(size), variation)
    return np.clip(0.5 - distance * poses.radius[:, None, None], 0, 1)
