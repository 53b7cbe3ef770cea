"""How far the making of mixes is, in lines of the log."""

import logging
import os
import time
from datetime import timedelta
from pathlib import Path

from supermix_pl.experiments.mixes.plan import Plan
from supermix_pl.experiments.mixes.shards import shard_number

_EVERY = 60  # seconds between two lines, and the longest that a kill shall cost
_log = logging.getLogger(__name__)


class GenerationProgress:
    """Tells what is done, by all processes, their rate, the time that is left at it, and the size of all on the disk.

    Args:
        folder: Where the shards are.
        plan: How many mixes they have.

    Attributes:
        there: Mixes that were there at the start.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder, self._plan = folder, plan
        self.there = self._count()
        self._made, self._bytes = 0, 0  # of this process
        self._start = self._last = self._told = time.monotonic()

    def finished(self, path: Path) -> None:
        """Count a shard of this process, and what others have made meanwhile; log the first, the last, one a minute."""
        now, done, first = time.monotonic(), self._count(), not self._made
        self._made += self._plan.length(shard_number(path))
        self._bytes += path.stat().st_size
        if first or done == self._plan.size or now - self._told >= _EVERY:
            self._told = now
            rate = max(done - self.there, self._made) / max(1e-9, now - self._start)  # damaged were counted as there
            left = timedelta(seconds=round((self._plan.size - done) / rate))
            size = self._plan.size * self._bytes / self._made / 1e9
            text = "%d of %d mixes, %.1f a second, %s left, %.3g GB in all"
            _log.info(text, done, self._plan.size, rate, left, size)
        if first and now - self._last > _EVERY:
            _log.warning(
                "a batch of %d took %.0f s, which a kill would cost: give a lower mixes.batch_size, in another folder",
                self._made,
                now - self._last,
            )
        self._last = now

    def _count(self) -> int:
        numbers = (shard_number(name) for name in os.listdir(self._folder) if name.endswith(".safetensors"))
        return sum(map(self._plan.length, numbers))
