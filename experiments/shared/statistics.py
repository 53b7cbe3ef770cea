"""Centre and spread of a measurement that was repeated, over seeds or blocks."""

import math
from collections.abc import Sequence
from statistics import fmean, median, stdev


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % confidence interval, by Student's t; 0 of a single value."""
    from scipy import stats  # of the extra `experiments`, and slow to import

    count = len(values)
    half = float(stats.t.ppf(0.975, count - 1)) * stdev(values) / math.sqrt(count) if count > 1 else 0.0
    return fmean(values), half


def mean_cell(values: Sequence[float | None], digits: int, factor: float = 1.0) -> str:
    """Write mean ± standard deviation (n - 1) of what could be measured.

    >>> mean_cell([1.0, 2.0, 6.0], 2), mean_cell([None], 1), mean_cell([0.5], 0, 100)
    ('3.00 ± 2.65', '-', '50')
    """
    known = [factor * value for value in values if value is not None]
    spread = f" ± {stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{fmean(known):.{digits}f}{spread}" if known else "-"


def median_cell(values: Sequence[float | None], digits: int, factor: float = 1.0) -> str:
    """Write median (least - most) of what could be measured.

    >>> median_cell([1.0, 2.0, 6.0], 1)
    '2.0 (1.0 - 6.0)'
    """
    known = [factor * value for value in values if value is not None]
    spread = f" ({min(known):.{digits}f} - {max(known):.{digits}f})" if len(known) > 1 else ""
    return f"{median(known):.{digits}f}{spread}" if known else "-"
