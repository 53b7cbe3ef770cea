"""Checks of arguments."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, TypeGuard

import numpy as np
from torch import Tensor

_STRAY = 0.2  # share of the pixels of a batch


def check_at_least(name: str, value: int, smallest: int) -> None:
    """Raise ValueError unless the value is an integer of at least `smallest`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < smallest:
        raise ValueError(f"expected {name} to be an integer >= {smallest}, got {value!r}")


def check_positive(name: str, value: float | Tensor) -> None:
    """Raise ValueError unless the value is finite and above 0."""
    if not (_is_finite(value) and value > 0):
        raise ValueError(f"expected {name} > 0, got {value!r}")


def check_not_negative(name: str, value: float) -> None:
    """Raise ValueError unless the value is finite and at least 0."""
    if not (_is_finite(value) and value >= 0):
        raise ValueError(f"expected {name} >= 0, got {value!r}")


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless the value is at least 0 and below 1."""
    if not (_is_finite(value) and 0 <= value < 1):
        raise ValueError(f"expected {name} in [0, 1), got {value!r}")


def check_probability(name: str, value: object) -> None:
    """Raise ValueError unless the value is at least 0 and at most 1."""
    if not (_is_finite(value) and 0 <= value <= 1):
        raise ValueError(f"expected {name} in [0, 1], got {value!r}")


def check_interval(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Return a (least, largest) pair as floats.

    Raises:
        ValueError: Unless it is two finite numbers with 0 < least <= largest.
    """
    pair = tuple(value) if _is_list(value) else ()
    if len(pair) != 2 or not all(_is_finite(end) for end in pair) or not 0 < pair[0] <= pair[1]:
        raise ValueError(f"expected {name} as (least, largest) with 0 < least <= largest, got {value!r}")
    return float(pair[0]), float(pair[1])


def hold_floats(settings: Any) -> None:
    """Hold the whole numbers of a frozen dataclass's float fields as floats: equal settings shall have one repr."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.type in (float, float | None) and isinstance(value, Real):
            object.__setattr__(settings, field.name, float(value))


def shortest(value: float) -> float:
    """Return a whole number as an integer, and others as they are: equal settings shall have one repr."""
    return int(value) if value % 1 == 0 else value


def find_strays(pixels: Tensor) -> tuple[float, float, float] | None:
    """Return which share of pixels lies outside [0, 1], the least and the largest, if it is more than a fifth."""
    share = float(((pixels < -0.05) | (pixels > 1.05)).float().mean())
    return (share, float(pixels.min()), float(pixels.max())) if share > _STRAY else None


def check_size(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Return a side or a (height, width) as the latter.

    Raises:
        ValueError: Unless these are integers >= 1.
    """
    sides = (value, value) if isinstance(value, int) else value
    if not _is_list(sides) or len(sides) != 2:
        raise ValueError(f"expected {name} as a side or (height, width), got {value!r}")
    for side in sides:
        check_at_least(name, side, 1)
    return int(sides[0]), int(sides[1])


def check_flag(name: str, value: object) -> None:
    """Raise ValueError unless the value is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"expected {name} to be True or False, got {value!r}")


def check_statistics(mean: Sequence[float] | None, std: Sequence[float] | None, names: str = "mean and std") -> None:
    """Raise ValueError unless mean and std are numbers, one a channel each, or both None.

    Args:
        mean: Per channel, finite.
        std: Per channel, finite and > 0.
        names: What they are called.
    """
    if not all(values is None or _is_list(values) for values in (mean, std)):
        raise ValueError(f"expected {names} with one value a channel each, got {mean!r} and {std!r}")
    if (mean is None) != (std is None):
        raise ValueError(f"expected {names} together, got only one of them; give both or neither")
    if mean is None or std is None:
        return
    if not all(_is_finite(value) for value in (*mean, *std)):
        raise ValueError(f"expected {names} as finite numbers, got {list(mean)} and {list(std)}")
    if not all(value > 0 for value in std):
        raise ValueError(f"expected every std > 0, got {list(std)}")
    if len(mean) != len(std):
        raise ValueError(f"expected {names} with one value a channel each, got {len(mean)} and {len(std)} values")


def check_transform(name: str, value: object) -> None:
    """Raise TypeError unless the value can be called on images; a class could be called, but not on them."""
    if not callable(value) or isinstance(value, type):
        hint = f"; give an instance, {value.__name__}(...)" if isinstance(value, type) else ""
        raise TypeError(f"expected {name} to take and give images, got {value!r}{hint}")


def check_one_of(name: str, value: object, names: tuple[object, ...]) -> None:
    """Raise ValueError unless the value is one of the names."""
    if value not in names:
        raise ValueError(f"expected {name} to be one of {', '.join(map(str, names))}, got {value!r}")


def _is_list(value: object) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | Mapping | Set) and getattr(value, "ndim", 1) > 0


def _is_finite(value: object) -> TypeGuard[float | Tensor]:
    value = value.item() if isinstance(value, Tensor) and value.ndim == 0 else value
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
