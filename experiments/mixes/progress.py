"""How far the making of mixes is: a bar on a terminal, lines in the log elsewhere."""

import logging
import os
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from supermix_pl.experiments.mixes.plan import Plan
from supermix_pl.experiments.mixes.shards import shard_number

_EVERY = 60  # seconds between two lines, and the longest that a kill shall cost
_log = logging.getLogger(__name__)


class GenerationProgress:
    """Shows what is done, by all processes, their rate, the time that is left at it, and the size of all on the disk.

    Args:
        folder: Where the shards are.
        plan: How many mixes they have.
        bar: Whether to show a bar where the console is a terminal.

    Attributes:
        there: Mixes that were there at the start.
    """

    def __init__(self, folder: Path, plan: Plan, *, bar: bool) -> None:
        self._folder, self._plan = folder, plan
        self.there = self._count()
        self._made, self._bytes = 0, 0  # of this process
        self._start = self._last = self._told = time.monotonic()
        console = get_console()
        self._logs = not (bar and console.is_terminal)
        self._bar = Progress(
            TextColumn("mixes"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeElapsedColumn(),
            console=console,
            disable=self._logs,
        )
        self._task = self._bar.add_task("mixes", total=plan.size, completed=self.there, pace="")

    def __enter__(self) -> "GenerationProgress":
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the bar as it is."""
        self._bar.stop()

    def finished(self, path: Path) -> None:
        """Count a shard of this process, and what others have made meanwhile; log the first, the last, one a minute."""
        now, done, first = time.monotonic(), self._count(), not self._made
        self._made += self._plan.length(shard_number(path))
        self._bytes += path.stat().st_size
        rate = max(done - self.there, self._made) / max(1e-9, now - self._start)  # damaged ones were counted as there
        left = timedelta(seconds=round((self._plan.size - done) / rate))
        size = self._plan.size * self._bytes / self._made / 1e9
        pace = f"{rate:.1f} a second, {left} left, {size:.3g} GB in all"
        self._bar.update(self._task, completed=done, pace=pace)
        if self._logs and (first or done == self._plan.size or now - self._told >= _EVERY):
            self._told = now
            _log.info("%d of %d mixes, %s", done, self._plan.size, pace)
        if first and now - self._last > _EVERY:
            _log.warning(
                "a batch of %d took %.0f s, which a kill would cost: give a lower mixes.batch_size, in another folder",
                self._made,
                now - self._last,
            )
        self._last = now

    def _count(self) -> int:
        """Count the mixes in the folder."""
        numbers = (shard_number(name) for name in os.listdir(self._folder) if name.endswith(".safetensors"))
        return sum(map(self._plan.length, numbers))
