"""Decoded images on disk: one uint8 array and its statistics, written once, opened by memory map."""

import itertools
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from jaxtyping import UInt8
from PIL import Image, ImageOps
from pytorch_lightning.utilities import rank_zero_info

Pixels = UInt8[np.ndarray, "3 h w"]
_BLOCK, _CHUNK = 4096, 64


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedImages:
    """Decoded images of one part of a data set."""

    images: UInt8[np.ndarray, "n 3 h w"]  # memory-mapped and read-only
    mean: tuple[float, float, float]  # of each channel on the scale [0, 1]
    std: tuple[float, float, float]  # likewise


def cache_folder(given: str | Path | None) -> Path:
    """Return the folder that is given, or `$XDG_CACHE_HOME/supermix_pl`, or `~/.cache/supermix_pl`."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "supermix_pl"
    return default if given is None else Path(given).expanduser()


def open_or_decode(folder: Path, decode: Callable[[], tuple[int, Iterable[Pixels]]], place: str) -> DecodedImages:
    """Opens a folder of decoded images, first filling it if it is missing, partial or damaged.

    Of several processes that need it at once one fills it. `decode` returns the number of images and their pixels one
    by one, of one size; `place` is what a message calls them.
    """
    opened = _read(folder)
    if opened is not None:  # without the lock: a cache may be read-only
        return opened
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock", mode=0o666):  # as the user's umask has it
        opened = _read(folder)
        if opened is None:
            count, rows = decode()
            rank_zero_info(f"decoding {count} images of {place} once, into {folder}")
            shutil.rmtree(folder, ignore_errors=True)  # not overwritten: others may have what is damaged open
            folder.mkdir()
            try:
                _write(folder, rows, count, place)
            except BaseException:
                shutil.rmtree(folder)
                raise
            opened = _read(folder)
    if opened is None:
        raise OSError(f"expected readable images in {folder} after writing them: check the disk, or give cache_dir")
    return opened


def decode_all(
    decode: Callable[[range], Iterable[Image.Image]], count: int, size: tuple[int, int] | None
) -> Iterator[Pixels]:
    """Yields the pixels of images that `decode` gives for ranges of 0 to `count`, in threads; see `to_pixels`."""

    def pixels(indices: range) -> list[Pixels]:
        return [to_pixels(image, size) for image in decode(indices)]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, count, _BLOCK):  # all at once would hold every image in memory
            stop = min(start + _BLOCK, count)
            chunks = (range(first, min(first + _CHUNK, stop)) for first in range(start, stop, _CHUNK))
            yield from itertools.chain.from_iterable(pool.map(pixels, chunks))


def to_pixels(image: Image.Image, size: tuple[int, int] | None) -> Pixels:
    """Return the pixels of an RGB image, resized and centre-cropped to height and width if `size` gives them."""
    if size is not None:
        image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BICUBIC)
    return np.asarray(image).transpose(2, 0, 1)


def _write(folder: Path, rows: Iterable[Pixels], count: int, place: str) -> None:
    images = None
    for number, pixels in enumerate(rows):
        if images is None:
            shape = (count, *pixels.shape)
            images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
            _reserve(folder / "images.npy")
        if pixels.shape != images.shape[1:]:
            first, other = (f"{height}x{width}" for height, width in (images.shape[2:], pixels.shape[1:]))
            raise ValueError(
                f"expected images of one size, {first} as the first, got {other} as image {number} of {place}: give "
                "size=(height, width) to resize and centre-crop all of them"
            )
        images[number] = pixels
    if images is None:
        raise ValueError(f"expected images in {place}, got no rows")
    images.flush()
    mean, std = _statistics(images)
    about = {"mean": mean, "std": std, "checksum": zlib.crc32(images.data)}
    (folder / "about.json").write_text(json.dumps(about))  # last: a folder without it is partial


def _reserve(path: Path) -> None:
    """Allocates a file: where the disk is full, writing to its memory map would kill the process."""
    try:
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise OSError(
            f"expected room for {path.stat().st_size} bytes of decoded images in {path.parent}, got: {error}; free "
            "some, or give another cache_dir"
        ) from error


def _read(folder: Path) -> DecodedImages | None:
    try:
        about: dict[str, Any] = json.loads((folder / "about.json").read_text())
        images = np.load(folder / "images.npy", mmap_mode="r")
        if zlib.crc32(images.data) != about["checksum"]:
            return None
        return DecodedImages(images=np.asarray(images), mean=tuple(about["mean"]), std=tuple(about["std"]))
    except (OSError, ValueError, KeyError, TypeError):  # what partial and damaged files give
        return None


def _statistics(images: UInt8[np.ndarray, "n 3 h w"]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel on the scale [0, 1]."""
    blocks = np.array_split(images, 1 + (images.nbytes >> 24))  # all at once would take eight times their memory
    sums = sum(np.stack([block.sum((0, 2, 3)), np.square(block, dtype=np.int64).sum((0, 2, 3))]) for block in blocks)
    mean, square = 3 * np.asarray(sums) / images.size / np.array([[255], [255**2]])
    return mean.tolist(), np.sqrt(np.maximum(square - mean**2, 0)).tolist()
