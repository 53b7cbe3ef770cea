"""Means over seeds with confidence intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_QUANTILES = (  # Student's t, 0.975, for 1, 2, ... 30 degrees of freedom
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """What a measurement came to that was repeated.

    Args:
        mean: Of the values.
        deviation: Their standard deviation (n - 1); None of a single one.
        half: Half the width of the mean's 95 % confidence interval, by Student's t; None of a single value.
        count: Number of values.
    """

    mean: float
    deviation: float | None
    half: float | None
    count: int


def interval(values: Sequence[float]) -> Interval:
    """Sum up at least one value."""
    mean, count = statistics.fmean(values), len(values)
    if count == 1:
        return Interval(mean=mean, deviation=None, half=None, count=1)
    deviation = statistics.stdev(values)
    return Interval(
        mean=mean, deviation=deviation, half=quantile(count - 1) * deviation / math.sqrt(count), count=count
    )


def quantile(freedom: int) -> float:
    """Give the 0.975 quantile of Student's t, to three digits.

    Args:
        freedom: Degrees of freedom, >= 1.

    >>> quantile(2), round(quantile(100), 2)
    (4.303, 1.98)
    """
    if freedom <= len(_QUANTILES):
        return _QUANTILES[freedom - 1]
    normal = 1.959964
    second = (5 * normal**5 + 16 * normal**3 + 3 * normal) / 96
    return normal + (normal**3 + normal) / (4 * freedom) + second / freedom**2
