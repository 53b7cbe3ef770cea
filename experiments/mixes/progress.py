"""How far the making of mixes is: a bar on a terminal, lines in the log elsewhere."""

import logging
import time
from datetime import timedelta
from types import TracebackType

from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_log = logging.getLogger(__name__)


class GenerationProgress:
    """Shows what is done, the rate, and the time that is left at this process's rate.

    Without a terminal rich would show nothing until the end, so every finished shard leaves a line in the log instead.

    Args:
        size: Mixes in all.
        bar: Whether to show a bar where the console is a terminal.
    """

    def __init__(self, size: int, *, bar: bool) -> None:
        self._size = size
        self._found, self._made = 0, 0
        self._start = time.monotonic()
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
        self._task = self._bar.add_task("mixes", total=size, pace="")

    def __enter__(self) -> "GenerationProgress":
        """Show the bar."""
        self._start = time.monotonic()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the bar as it is."""
        self._bar.stop()

    def found(self, count: int) -> None:
        """Count mixes that were there already; they say nothing about the rate."""
        self._found += count
        self._bar.update(self._task, advance=count)

    def made(self, count: int) -> None:
        """Count fresh mixes."""
        self._made += count
        self._bar.update(self._task, advance=count, pace=self.pace())

    def finished(self, shard: int) -> None:
        """Log a finished shard."""
        if self._logs:
            done = self._found + self._made
            _log.info("shard %d: %d of %d mixes, %s", shard, done, self._size, self.pace())

    def pace(self) -> str:
        """Return the rate of fresh mixes and the time that is left; empty before the first one."""
        if not self._made:
            return ""
        rate = self._made / max(1e-9, time.monotonic() - self._start)
        left = timedelta(seconds=round((self._size - self._found - self._made) / rate))
        return f"{rate:.1f} a second, {left} left"
