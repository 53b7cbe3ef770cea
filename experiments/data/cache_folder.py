"""Folders that are filled once, with checksums of what lies in them."""

import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

_T = TypeVar("_T")

_BLOCK = 1 << 20
_MOST_BLOCKS = 256
_ABOUT = "about.json"
_PARTIAL = ".partial"


def default_cache_dir() -> Path:
    """Returns `$XDG_CACHE_HOME/supermix_pl`, or `~/.cache/supermix_pl`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "supermix_pl"


def open_or_fill(folder: Path, *, fill: Callable[[Path], object], read: Callable[[Path], _T | None]) -> _T:
    """Opens a cache folder, first filling it if it is missing, partial or corrupt.

    The folder is filled under a temporary name and then renamed, so that nobody sees half of it. Of several processes
    that need it at once one fills it, and the others wait for its work. What a killed one left is removed by the next
    that fills a folder beside it.

    Args:
        folder: The cache folder of this data.
        fill: Writes the files and their description into the empty folder that it is given.
        read: Opens a folder; gives `None` for one that is missing, partial or corrupt.
    """
    opened = read(folder)
    if opened is not None:
        return opened
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        opened = read(folder)  # of another process that held the lock
        if opened is not None:
            return opened
        _remove_remains(folder)
        partial = folder.with_name(f"{folder.name}{_PARTIAL}")
        partial.mkdir()
        try:
            fill(partial)
            shutil.rmtree(folder, ignore_errors=True)  # what is corrupt
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        opened = read(folder)
    if opened is None:
        raise OSError(
            f"expected a readable cache in {folder} after writing it: check the disk, or give another cache_dir"
        )
    return opened


def describe(folder: Path, names: Sequence[str], **facts: Any) -> None:
    """Writes facts and the files' checksums; last, so that a folder without them is known as partial."""
    sums = {name: _checksum(folder / name) for name in names}
    (folder / _ABOUT).write_text(json.dumps({**facts, "checksums": sums}))


def read_description(folder: Path) -> dict[str, Any] | None:
    """Returns what `describe` wrote, or `None` if it or one of the files is missing or changed."""
    try:
        about = json.loads((folder / _ABOUT).read_text())
        unchanged = all(_checksum(folder / name) == checksum for name, checksum in about["checksums"].items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):  # what partial and corrupt files give
        return None
    return about if unchanged else None


def _lock(folder: Path, *, timeout: float = -1) -> FileLock:
    return FileLock(f"{folder}.lock", timeout=timeout, mode=0o666)  # as the user's umask has it


def _remove_remains(folder: Path) -> None:
    """Removes partial folders: of this one, whose lock is held, and of others that nobody holds."""
    for partial in folder.parent.glob(f"*{_PARTIAL}"):
        whole = partial.with_name(partial.name.removesuffix(_PARTIAL))
        if whole == folder:
            shutil.rmtree(partial)
            continue
        try:
            with _lock(whole, timeout=0):
                shutil.rmtree(partial, ignore_errors=True)
        except Timeout:
            continue


def _checksum(path: Path) -> int:
    """Returns a checksum of the file's size and of at most 256 MiB of it, evenly spread."""
    size = path.stat().st_size
    step = max(_BLOCK, size // _MOST_BLOCKS)
    checksum = zlib.crc32(str(size).encode())
    with path.open("rb") as file:
        for offset in range(0, size, step):
            file.seek(offset)
            checksum = zlib.crc32(file.read(_BLOCK), checksum)
    return checksum
