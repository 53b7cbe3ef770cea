"""A folder of Hugging Face style Parquet shards as a data module."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from jaxtyping import Int64
from pytorch_lightning.utilities import rank_zero_info

from supermix_pl.experiments.data.array_cache import CachedImages, open_or_build
from supermix_pl.experiments.data.datamodule import CommonArguments, LabelledImages, Opened, height_width
from supermix_pl.experiments.data.parquet_decode import decode_shards
from supermix_pl.experiments.data.parquet_folder import FolderArguments, ParquetFolder
from supermix_pl.experiments.data.parquet_shards import Shards, class_names_for, shards_key

_FORMAT = 1


class ParquetArguments(FolderArguments, CommonArguments, total=False):
    """Arguments that `Parquet` hands on."""


class Parquet(ParquetFolder):
    """Images from `train-*.parquet` and `test-*.parquet` (or `validation-*`, `val-*`).

    Every image is decoded once, without loss, into a uint8 array in `cache_dir`; later runs open it by memory map.
    Class names come from the schema's metadata. By default images are normalised with the statistics of the training
    images.

    Args:
        test_part: First word of the names of the test shards; see `ParquetFolder`.
        size: Resizes and centre-crops every image to this size or (height, width); needed where they differ.
        arguments: Arguments of `ParquetFolder` and `ImageDataModule`.
    """

    def __init__(
        self,
        *,
        test_part: str | None = None,
        size: int | Sequence[int] | None = None,
        **arguments: Unpack[ParquetArguments],
    ) -> None:
        super().__init__(test_part=test_part, **arguments)
        self.size = None if size is None else height_width(size)

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
        class_names = class_names_for(shards, max(int(part.labels.max()) for _, part in decoded.values()))
        return self._opened_arrays(
            train=_arrays(train), test=_arrays(test), class_names=class_names, mean=cached.mean, std=cached.std
        )

    def _decoded(self) -> dict[str, tuple[Shards, CachedImages]]:
        return {part: (shards, self._open_part(shards)) for part, shards in self.find_parts().items()}

    def _open_part(self, shards: Shards) -> CachedImages:
        def build(images_path: Path) -> Int64[np.ndarray, " n"]:
            rank_zero_info(f"decoding {shards.num_rows} images of {shards.paths[0].parent} once, into {self.cache_dir}")
            return decode_shards(shards, images_path, size=self.size)

        return open_or_build(self.cache_dir / shards_key(shards, _FORMAT, self.size), build)


def _arrays(part: tuple[Shards, CachedImages] | None) -> LabelledImages | None:
    return None if part is None else (part[1].images, part[1].labels)
