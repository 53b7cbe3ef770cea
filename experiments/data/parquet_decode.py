"""Decoding every image of Parquet shards into one uint8 array."""

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, ImageOps

from supermix_pl.experiments.data.parquet_shards import Shards, is_binary, open_shard
from supermix_pl.experiments.data.rgb import open_rgb

_FORMATS = {b"\xff\xd8": ("JPEG",), b"\x89PNG": ("PNG",), b"RIFF": ("WEBP",)}
_ROWS, _CHUNK = 1024, 64


def decode_shards(shards: Shards, images_path: Path, *, size: tuple[int, int] | None) -> Int64[np.ndarray, " n"]:
    """Decodes every image of the shards into one uint8 `.npy` file of shape (n, 3, h, w).

    Args:
        shards: What to read.
        images_path: The file to write.
        size: Height and width to resize and centre-crop to; `None` keeps the pixels as they are.

    Returns:
        The labels.

    Raises:
        ValueError: If an image cannot be decoded or has another size than the first, or a label is missing or below 0.
    """
    images, labels = None, np.empty(shards.num_rows, dtype=np.int64)
    start = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, first, encoded, block_labels in read_blocks(shards):
            parts = ((path, first + i, encoded[i : i + _CHUNK]) for i in range(0, len(encoded), _CHUNK))
            decoded = itertools.chain.from_iterable(pool.map(partial(_decode_part, size=size), parts))
            for row, pixels in enumerate(decoded):
                if images is None:
                    shape = (shards.num_rows, *pixels.shape)
                    images = np.lib.format.open_memmap(images_path, mode="w+", dtype=np.uint8, shape=shape)
                if pixels.shape != images.shape[1:]:
                    raise ValueError(
                        f"expected images of one size, {_shown(images[0])} as the first, got {_shown(pixels)} in "
                        f"{path}, row {first + row}: give size=(height, width) to resize and centre-crop all of them"
                    )
                images[start + row] = pixels
            labels[start : start + len(encoded)] = block_labels
            start += len(encoded)
    if images is None:
        raise ValueError(f"expected images in {', '.join(map(str, shards.paths))}, got no rows")
    images.flush()
    return labels


def read_blocks(shards: Shards) -> Iterator[tuple[Path, int, list[bytes | None], Int64[np.ndarray, " b"]]]:
    """Yields file, first row, encoded images and labels (-1 without a label column) of about a thousand rows at a time.

    Raises:
        ValueError: If a label is missing or below 0.
    """
    columns = [name for name in (shards.image_column, shards.label_column) if name is not None]
    for path in shards.paths:
        first = 0
        for block in open_shard(path).iter_batches(_ROWS, columns=columns):
            images = block.column(shards.image_column)
            encoded = images if is_binary(images.type) else images.field("bytes")
            yield path, first, encoded.to_pylist(), _labels(block, shards.label_column, path, first)
            first += len(block)


def _labels(block: Any, label_column: str | None, path: Path, first: int) -> Int64[np.ndarray, " b"]:
    if label_column is None:
        return np.full(len(block), -1)
    column = block.column(label_column)
    if column.null_count or (labels := column.to_numpy().astype(np.int64)).min() < 0:
        raise ValueError(
            f"expected labels from 0 on in column {label_column!r} of {path}, got missing or negative ones in rows "
            f"{first} to {first + len(block) - 1}: an unlabelled part? Move its shards away, or name another test_part"
        )
    return labels


def _decode_part(
    part: tuple[Path, int, list[bytes | None]], size: tuple[int, int] | None
) -> list[UInt8[np.ndarray, "3 h w"]]:
    path, first, encoded = part
    return [_decode(item, f"{path}, row {row}", size) for row, item in enumerate(encoded, first)]


def _decode(encoded: bytes | None, place: str, size: tuple[int, int] | None) -> UInt8[np.ndarray, "3 h w"]:
    return to_pixels(decode_image(encoded, place), size)


def decode_image(encoded: bytes | None, place: str) -> Image.Image:
    """Decodes an image into RGB; see `open_rgb`.

    Raises:
        ValueError: If there are no bytes, or they are no image that can be decoded; the message says in which place.
    """
    if encoded is None:
        raise ValueError(f"expected the image's bytes, got none in {place}: shards that hold only paths will not do")
    # Trying every format that Pillow knows would take as long as decoding
    formats = next((kinds for start, kinds in _FORMATS.items() if encoded.startswith(start)), None)
    return open_rgb(encoded, place, formats=formats)


def to_pixels(image: Image.Image, size: tuple[int, int] | None) -> UInt8[np.ndarray, "3 h w"]:
    """Returns the pixels of an RGB image, resized and centre-cropped to height and width if `size` gives them."""
    if size is not None:
        image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BICUBIC)
    return np.asarray(image).transpose(2, 0, 1)


def _shown(pixels: UInt8[np.ndarray, "3 h w"]) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[2]}"
