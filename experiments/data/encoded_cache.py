"""The encoded images of Parquet shards in one plain file: a shard gives single rows only by whole row groups."""

from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image

from supermix_pl.experiments.data.cache_folder import describe, open_or_fill, read_description
from supermix_pl.experiments.data.parquet_decode import decode_image, read_blocks
from supermix_pl.experiments.data.parquet_shards import Shards

_FILES = ("images.bin", "ends.npy", "labels.npy")


class EncodedFile:
    """Encoded images one after the other in a file, as `EncodedImages`; takes as much room as the shards.

    Args:
        folder: What `open_or_copy` filled.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILES[0]
        self._ends = np.load(folder / _FILES[1])
        self.labels: Int64[np.ndarray, " n"] = np.load(folder / _FILES[2])

    def __getitem__(self, index: int) -> Image.Image:
        """Decodes an image."""
        start = int(self._ends[index - 1]) if index else 0
        with self._path.open("rb") as file:
            file.seek(start)
            encoded = file.read(int(self._ends[index]) - start)
        return decode_image(encoded, f"{self._path}, image {index}")


def open_or_copy(folder: Path, shards: Shards) -> EncodedFile:
    """Opens a cache folder, first copying the images of the shards into it if it is missing, partial or corrupt.

    Raises:
        ValueError: If a label is missing or below 0, or a row has no bytes.
    """

    def read(folder: Path) -> EncodedFile | None:
        return None if read_description(folder) is None else EncodedFile(folder)

    return open_or_fill(folder, fill=lambda temporary: _copy(shards, temporary), read=read)


def _copy(shards: Shards, folder: Path) -> None:
    lengths, labels = [], []
    with (folder / _FILES[0]).open("wb") as file:
        for path, first, encoded, block_labels in read_blocks(shards):
            for row, item in enumerate(encoded, first):
                if item is None:
                    raise ValueError(
                        f"expected the image's bytes, got none in {path}, row {row}: shards that hold only paths will "
                        "not do"
                    )
                file.write(item)
                lengths.append(len(item))
            labels.append(block_labels)
    if not labels:
        raise ValueError(f"expected images in {', '.join(map(str, shards.paths))}, got no rows")
    np.save(folder / _FILES[1], np.cumsum(lengths, dtype=np.int64))
    np.save(folder / _FILES[2], np.concatenate(labels))
    describe(folder, _FILES)
