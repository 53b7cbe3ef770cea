"""Means over seeds with confidence intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


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
    half = float(stats.t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
    return Interval(mean=mean, deviation=deviation, half=half, count=count)
