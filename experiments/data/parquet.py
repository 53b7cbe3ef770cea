"""A folder of Hugging Face style Parquet shards as a data module."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from jaxtyping import Int64
from pytorch_lightning.utilities import rank_zero_info

from supermix_pl.experiments.data.array_cache import CachedImages, default_cache_dir, open_or_build
from supermix_pl.experiments.data.datamodule import (
    CommonArguments,
    ImageDataModule,
    LabelledImages,
    Opened,
    height_width,
)
from supermix_pl.experiments.data.parquet_decode import decode_shards
from supermix_pl.experiments.data.parquet_shards import Shards, find_shards

_FORMAT = 1
_TEST_PARTS = ("test", "validation", "val")


class Parquet(ImageDataModule):
    """Images from `train-*.parquet` and `test-*.parquet` (or `validation-*`, `val-*`).

    Every image is decoded once, without loss, into a uint8 array in `cache_dir`; later runs open it by memory map.
    Class names come from the schema's metadata. By default images are normalised with the statistics of the training
    images.

    Args:
        folder: Folder of the shards.
        image_column: Column of images (a struct with `bytes`, or binary); found by its type when `None`.
        label_column: Column of integer labels; found by its name when `None`.
        size: Resizes and centre-crops every image to this size or (height, width); needed where they differ.
        cache_dir: Folder of decoded images; `None` for `$XDG_CACHE_HOME/supermix_pl` or `~/.cache/supermix_pl`.
        common: Arguments of `ImageDataModule`.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        image_column: str | None = None,
        label_column: str | None = None,
        size: int | Sequence[int] | None = None,
        cache_dir: str | Path | None = None,
        **common: Unpack[CommonArguments],
    ) -> None:
        super().__init__(**common)
        self.folder = Path(folder).expanduser()
        self.image_column = image_column
        self.label_column = label_column
        self.size = None if size is None else height_width(size)
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()

    def prepare_data(self) -> None:
        """Decodes what the cache lacks, in one process."""
        self._decoded()

    def open_data(self) -> Opened:
        """Opens the cache of both parts."""
        decoded = self._decoded()
        train, test = (decoded.get(part) for part in ("train", "test"))
        first = train or test
        assert first is not None
        shards, cached = first
        largest = max(int(part.labels.max()) for _, part in decoded.values())
        class_names = list(shards.class_names or map(str, range(largest + 1)))
        if largest >= len(class_names):
            raise ValueError(
                f"expected labels below {len(class_names)}, the number of class names in {shards.paths[0]}, got "
                f"{largest} in {shards.label_column!r}: the shards contradict their metadata"
            )
        return self._opened_arrays(
            train=_arrays(train), test=_arrays(test), class_names=class_names, mean=cached.mean, std=cached.std
        )

    def _decoded(self) -> dict[str, tuple[Shards, CachedImages]]:
        found = {"train": self._shards("train")}
        found["test"] = next((shards for part in _TEST_PARTS if (shards := self._shards(part))), None)
        if not any(found.values()):
            names = (
                sorted(path.name for path in self.folder.iterdir())[:8] if self.folder.is_dir() else "no such folder"
            )
            raise ValueError(f"expected train-*.parquet or test-*.parquet in {self.folder}, got {names or 'nothing'}")
        return {part: (shards, self._open_part(shards)) for part, shards in found.items() if shards is not None}

    def _shards(self, part: str) -> Shards | None:
        return find_shards(self.folder, part, image_column=self.image_column, label_column=self.label_column)

    def _open_part(self, shards: Shards) -> CachedImages:
        def build(images_path: Path) -> Int64[np.ndarray, " n"]:
            rank_zero_info(f"decoding {shards.num_rows} images of {shards.paths[0].parent} once, into {self.cache_dir}")
            return decode_shards(shards, images_path, size=self.size)

        return open_or_build(self.cache_dir / _key(shards, self.size), build)


def _key(shards: Shards, size: tuple[int, int] | None) -> str:
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in shards.paths]
    identity = json.dumps([_FORMAT, files, shards.image_column, shards.label_column, size])
    return f"{shards.paths[0].parent.name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _arrays(part: tuple[Shards, CachedImages] | None) -> LabelledImages | None:
    return None if part is None else (part[1].images, part[1].labels)
