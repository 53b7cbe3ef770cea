"""Decoded images on disk: one uint8 array, written once, opened by memory map."""

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps
from pytorch_lightning.utilities import rank_zero_info

from supermix_pl.experiments.shared.files import to_be_made, whole_file, write_whole

Pixels = UInt8[np.ndarray, "3 h w"]
_BLOCK, _CHUNK = 4096, 64


def cache_folder(given: str | Path | None) -> Path:
    """Return the folder that is given, or `$XDG_CACHE_HOME/supermix_pl`, or `~/.cache/supermix_pl`."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "supermix_pl"
    return default if given is None else Path(given).expanduser()


def open_or_decode(
    path: Path, decode: Callable[[], tuple[int, Iterable[Pixels]]], place: str
) -> UInt8[np.ndarray, "n 3 h w"]:
    """Opens a .npy file of decoded images by memory map, read-only, first writing it if it is not there.

    Of several processes that need it at once one writes it. `decode` returns the number of images and their pixels one
    by one, of one size; `place` is what a message calls them.
    """
    with to_be_made(path) as missing:
        if missing:
            count, rows = decode()
            rank_zero_info(f"decoding {count} images of {place} once, into {path}")
            try:
                with whole_file(path) as file:
                    _write(file, rows, count, place)
            except OSError as error:
                raise OSError(
                    f"expected room for {count} decoded images in {path.parent}, got: {error}; free some, or give "
                    "another cache_dir"
                ) from error
    return np.asarray(np.load(path, mmap_mode="r"))


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


def statistics(images: UInt8[np.ndarray, "n 3 h w"], path: Path) -> list[tuple[float, ...]]:
    """Return mean and standard deviation of each channel on the scale [0, 1], kept in a JSON file."""
    with to_be_made(path) as missing:
        if missing:
            blocks = np.array_split(
                images, 1 + (images.nbytes >> 24)
            )  # all at once would take eight times their memory
            squares = (np.square(block, dtype=np.int64).sum((0, 2, 3)) for block in blocks)
            mean = images.mean((0, 2, 3)) / 255
            variance = 3 * np.asarray(sum(squares)) / images.size / 255**2 - mean**2
            write_whole(path, json.dumps([mean.tolist(), np.sqrt(np.maximum(variance, 0)).tolist()]))
    return [tuple(values) for values in json.loads(path.read_text(encoding="utf-8"))]


def _write(file: BinaryIO, rows: Iterable[Pixels], count: int, place: str) -> None:
    shape = None
    for number, pixels in enumerate(rows):
        if shape is None:
            shape = pixels.shape
            header = {"shape": (count, *shape), "fortran_order": False, "descr": "|u1"}
            np.lib.format.write_array_header_1_0(file, header)
        if pixels.shape != shape:
            first, other = (f"{height}x{width}" for height, width in (shape[1:], pixels.shape[1:]))
            raise ValueError(
                f"expected images of one size, {first} as the first, got {other} as image {number} of {place}: give "
                "size=(height, width) to resize and centre-crop all of them"
            )
        file.write(pixels.tobytes())
    if shape is None:
        raise ValueError(f"expected images in {place}, got no rows")
