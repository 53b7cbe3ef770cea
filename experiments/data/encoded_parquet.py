"""Parquet shards of large images as a data module: random resized crops, decoded anew for every view."""

from typing import Unpack

from pytorch_lightning.utilities import rank_zero_info

from supermix_pl.experiments.data.crops import CropArguments, CroppedImages
from supermix_pl.experiments.data.datamodule import Opened
from supermix_pl.experiments.data.encoded_cache import EncodedFile, open_or_copy
from supermix_pl.experiments.data.parquet_folder import FolderArguments, ParquetFolder
from supermix_pl.experiments.data.parquet_shards import Shards, class_names_for, shards_key

_FORMAT = "encoded 1"


class EncodedArguments(FolderArguments, CropArguments, total=False):
    """Arguments that `EncodedParquet` hands on."""


class EncodedParquet(ParquetFolder, CroppedImages):
    """Images from Parquet shards in the Hugging Face layout, of any sizes, with the views of `ImageFolder`.

    The encoded images are copied once into `cache_dir`, which takes as much room as the shards, because a shard gives
    single rows only by whole row groups. `Parquet` is for small images of one size.

    Args:
        test_part: First word of the names of the test shards (ImageNet's `test` has no labels); see `ParquetFolder`.
        arguments: Arguments of `ParquetFolder` and `CroppedImages`.
    """

    def __init__(self, *, test_part: str | None = "validation", **arguments: Unpack[EncodedArguments]) -> None:
        super().__init__(test_part=test_part, **arguments)

    def prepare_data(self) -> None:
        """Copies what the cache lacks, in one process."""
        self._copied()

    def open_data(self) -> Opened:
        """Opens the copies of both parts."""
        copied = self._copied()
        train, test = (copied[part][1] if part in copied else None for part in ("train", "test"))
        shards = next(iter(copied.values()))[0]
        class_names = class_names_for(shards, max(int(images.labels.max()) for _, images in copied.values()))
        return self._opened_encoded(train=train, test=test, class_names=class_names)

    def _copied(self) -> dict[str, tuple[Shards, EncodedFile]]:
        return {part: (shards, self._open_part(shards)) for part, shards in self.find_parts().items()}

    def _open_part(self, shards: Shards) -> EncodedFile:
        folder = self.cache_dir / shards_key(shards, _FORMAT)
        if not folder.exists():
            rank_zero_info(f"copying {shards.num_rows} images of {shards.paths[0].parent} once, into {folder}")
        return open_or_copy(folder, shards)
