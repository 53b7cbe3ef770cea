"""Decoded images on disk: one uint8 array, written once, opened by memory map."""

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

_BLOCK = 1 << 20
_MOST_BLOCKS = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedImages:
    """Images of one part of a data set, decoded.

    Args:
        images: Pixels, memory-mapped and read-only.
        labels: Classes.
        mean: Mean of each channel on the scale [0, 1].
        std: Standard deviation of each channel on the scale [0, 1].
    """

    images: UInt8[np.ndarray, "n 3 h w"]
    labels: Int64[np.ndarray, " n"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def default_cache_dir() -> Path:
    """Returns `$XDG_CACHE_HOME/supermix_pl`, or `~/.cache/supermix_pl`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "supermix_pl"


def open_or_build(folder: Path, build: Callable[[Path], Int64[np.ndarray, " n"]]) -> CachedImages:
    """Opens a cache folder, first filling it if it is missing, partial or corrupt.

    The folder is filled under a temporary name and then renamed, so that nobody sees half of it; of several processes
    that fill it at once, one wins and the others use its work.

    Args:
        folder: The cache folder of this data.
        build: Writes the images to the `.npy` file that it is given, and returns the labels.
    """
    cached = _open(folder)
    if cached is not None:
        return cached
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        labels = build(temporary / "images.npy")
        np.save(temporary / "labels.npy", labels)
        _describe(temporary)
        _replace(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    cached = _open(folder)
    if cached is None:
        raise OSError(
            f"expected a readable cache in {folder} after writing it: check the disk, or give another cache_dir"
        )
    return cached


def _replace(folder: Path, temporary: Path) -> None:
    if folder.exists() and _open(folder) is None:
        shutil.rmtree(folder)
    try:
        temporary.rename(folder)
    except OSError:  # another process was first
        if not folder.exists():
            raise


def _describe(folder: Path) -> None:
    """Writes what `_open` checks the arrays against; last, so that a folder without it is known as partial."""
    images = np.load(folder / "images.npy", mmap_mode="r")
    mean, std = _statistics(images)
    sums = {name: _checksum(folder / name) for name in ("images.npy", "labels.npy")}
    (folder / "about.json").write_text(json.dumps({"mean": mean, "std": std, "checksums": sums}))


def _open(folder: Path) -> CachedImages | None:
    try:
        about = json.loads((folder / "about.json").read_text())
        if any(_checksum(folder / name) != checksum for name, checksum in about["checksums"].items()):
            return None
        images = np.asarray(np.load(folder / "images.npy", mmap_mode="r"))
        labels = np.load(folder / "labels.npy")
        return CachedImages(images=images, labels=labels, mean=tuple(about["mean"]), std=tuple(about["std"]))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):  # what partial and corrupt files give
        return None


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


def _statistics(images: UInt8[np.ndarray, "n 3 h w"]) -> tuple[list[float], list[float]]:
    counts = np.sum(list(_histograms(images)), axis=0)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    std = np.sqrt(counts @ values**2 / counts.sum(1) - mean**2)
    return mean.tolist(), std.tolist()


def _histograms(images: UInt8[np.ndarray, "n 3 h w"]) -> Iterator[Int64[np.ndarray, "3 256"]]:
    rows = max(1, (1 << 24) // images[0].size)
    for start in range(0, len(images), rows):
        block = images[start : start + rows]
        yield np.stack([np.bincount(block[:, channel].ravel(), minlength=256) for channel in range(3)])
