"""Checks of arguments."""

import math
from numbers import Real
from typing import TypeGuard


def check_at_least(name: str, value: int, smallest: int) -> None:
    """Raise ValueError unless the value is an integer of at least `smallest`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
        raise ValueError(f"expected {name} to be an integer >= {smallest}, got {value!r}")


def check_positive(name: str, value: float) -> None:
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


def check_one_of(name: str, value: object, names: tuple[object, ...]) -> None:
    """Raise ValueError unless the value is one of the names."""
    if value not in names:
        raise ValueError(f"expected {name} to be one of {', '.join(map(str, names))}, got {value!r}")


def _is_finite(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
