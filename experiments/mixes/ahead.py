"""Reading what a training will ask for next, while it trains."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

_AHEAD = 4  # batches, by as many threads
T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Gives batches by their numbers; threads read the next ones meanwhile.

    The next ones are those at the smallest distance at which two batches were asked for. What is given does not depend
    on the guess: a batch that was not read before is read when it is asked for. A copy starts anew.

    Args:
        read: From the name of an order, the number of a batch in it, >= 0, and its size, to the batch.
    """

    def __init__(self, read: Callable[[tuple[int, ...], int, int], T]) -> None:
        self._read = read
        self._last = self._stride = 0
        self._reading: dict[tuple[tuple[int, ...], int, int], Future[T]] = {}
        self._threads: ThreadPoolExecutor | None = None

    def __reduce__(self) -> Any:
        return type(self), (self._read,)

    def get(self, stream: tuple[int, ...], number: int, size: int) -> T:
        """Return a batch."""
        if self._threads is None:
            self._threads, self._last = ThreadPoolExecutor(_AHEAD), number
        if number > self._last:
            self._stride = min(number - self._last, self._stride or number)
        self._last = number
        before = self._reading
        steps = range(1, 1 + _AHEAD) if self._stride else ()
        keys = [(stream, number + step * self._stride, size) for step in steps]
        self._reading = {key: before.pop(key, None) or self._threads.submit(self._read, *key) for key in keys}
        asked = before.pop((stream, number, size), None)
        for other in before.values():
            other.cancel()
        return self._read(stream, number, size) if asked is None else asked.result()

    def stop(self) -> None:
        """Let go of the threads and of what they read."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        self._threads, self._reading = None, {}
