"""Numbers of work that comes in bursts, evened out for the log."""

from collections import deque
from collections.abc import Mapping
from statistics import fmean


class RecentMeans:
    """Means over the last batches, of numbers by name."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}

    def add(self, values: Mapping[str, float], period: int) -> dict[str, float]:
        """Take in a batch's numbers.

        Args:
            values: The numbers.
            period: Batches after which the work repeats itself, >= 1.

        Returns:
            Their means over the last `period` batches, or as many as there were.
        """
        means = {}
        for name, value in values.items():
            self._seen[name] = deque([*self._seen.get(name, ()), value], maxlen=period)
            means[name] = fmean(self._seen[name])
        return means
