"""Files that several processes need and one of them makes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


@contextmanager
def to_be_made(path: Path) -> Iterator[bool]:
    """Yields whether a file is to be made; of several processes one is told so, and the others wait for its work.

    Where it is there nothing is locked, as its folder may be read-only.
    """
    if path.exists():
        yield False
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", mode=0o666):  # other users may wait for it too
        yield not path.exists()
