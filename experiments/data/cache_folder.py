"""Folders that are filled once, with checksums of what lies in them."""

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")

_BLOCK = 1 << 20
_MOST_BLOCKS = 256
_ABOUT = "about.json"


def default_cache_dir() -> Path:
    """Returns `$XDG_CACHE_HOME/supermix_pl`, or `~/.cache/supermix_pl`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "supermix_pl"


def open_or_fill(folder: Path, *, fill: Callable[[Path], object], read: Callable[[Path], _T | None]) -> _T:
    """Opens a cache folder, first filling it if it is missing, partial or corrupt.

    The folder is filled under a temporary name and then renamed, so that nobody sees half of it; of several processes
    that fill it at once, one wins and the others use its work.

    Args:
        folder: The cache folder of this data.
        fill: Writes the files and their description into the empty folder that it is given.
        read: Opens a folder; gives `None` for one that is missing, partial or corrupt.
    """
    opened = read(folder)
    if opened is not None:
        return opened
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        fill(temporary)
        _replace(folder, temporary, read)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
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


def _replace(folder: Path, temporary: Path, read: Callable[[Path], object]) -> None:
    if folder.exists() and read(folder) is None:
        shutil.rmtree(folder)
    try:
        temporary.rename(folder)
    except OSError:  # another process was first
        if not folder.exists():
            raise


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
