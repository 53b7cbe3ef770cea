"""Centre and spread of a measurement that was repeated, over seeds or blocks."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """A measurement that was repeated, at least once."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Summary | None":
        """Summarise what could be measured; None if nothing could."""
        known = tuple(float(value) for value in values if value is not None)
        return cls(known) if known else None

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation (n - 1); None of a single value."""
        return statistics.stdev(self.values) if self.count > 1 else None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def half(self) -> float | None:
        """Half the width of the mean's 95 % confidence interval, by Student's t; None of a single value."""
        if self.deviation is None:
            return None
        from scipy import stats  # of the extra `experiments`, and slow to import

        return float(stats.t.ppf(0.975, self.count - 1)) * self.deviation / math.sqrt(self.count)


def mean_cell(values: Sequence[float | None], digits: int, factor: float = 1.0) -> str:
    """Write mean ± standard deviation.

    >>> mean_cell([1.0, 2.0, 6.0], 2), mean_cell([None], 1), mean_cell([0.5], 0, 100)
    ('3.00 ± 2.65', '-', '50')
    """
    summary = Summary.of(values)
    if summary is None:
        return "-"
    spread = "" if summary.deviation is None else f" ± {factor * summary.deviation:.{digits}f}"
    return f"{factor * summary.mean:.{digits}f}{spread}"


def median_cell(values: Sequence[float | None], digits: int, factor: float = 1.0) -> str:
    """Write median (least - most).

    >>> median_cell([1.0, 2.0, 6.0], 1)
    '2.0 (1.0 - 6.0)'
    """
    summary = Summary.of(values)
    if summary is None:
        return "-"
    least, most = (f"{factor * each:.{digits}f}" for each in (min(summary.values), max(summary.values)))
    return f"{factor * summary.median:.{digits}f}" + (f" ({least} - {most})" if summary.count > 1 else "")
