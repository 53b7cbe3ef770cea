"""Parquet shards of large images as a data module: random resized crops, decoded anew for every view."""

from pathlib import Path
from typing import Unpack

from pytorch_lightning.utilities import rank_zero_info

from supermix_pl.experiments.data.cache_folder import default_cache_dir
from supermix_pl.experiments.data.crops import CropArguments, CroppedImages
from supermix_pl.experiments.data.datamodule import Opened
from supermix_pl.experiments.data.encoded_cache import EncodedFile, open_or_copy
from supermix_pl.experiments.data.parquet_shards import Shards, class_names_for, find_parts, shards_key

_FORMAT = "encoded 1"


class EncodedParquet(CroppedImages):
    """Images from Parquet shards in the Hugging Face layout, of any sizes, with the views of `ImageFolder`.

    The encoded images are copied once into `cache_dir`, which takes as much room as the shards, because a shard gives
    single rows only by whole row groups. `Parquet` is for small images of one size.

    Args:
        folder: Folder of the shards.
        train_part: First word of the names of the training shards.
        test_part: First word of the names of the test shards (ImageNet's `test` has no labels); `None` for `test`,
            `validation` or `val`. The same word as `train_part` trains and tests on the same images.
        image_column: Column of images (a struct with `bytes`, or binary); found by its type when `None`.
        label_column: Column of integer labels; found by its name when `None`.
        cache_dir: Folder of the copies; `None` for `$XDG_CACHE_HOME/supermix_pl` or `~/.cache/supermix_pl`.
        arguments: Arguments of `CroppedImages`.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        train_part: str = "train",
        test_part: str | None = "validation",
        image_column: str | None = None,
        label_column: str | None = None,
        cache_dir: str | Path | None = None,
        **arguments: Unpack[CropArguments],
    ) -> None:
        super().__init__(**arguments)
        self.folder = Path(folder).expanduser()
        self.train_part = train_part
        self.test_part = test_part
        self.image_column = image_column
        self.label_column = label_column
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()

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
        parts = find_parts(
            self.folder,
            train_part=self.train_part,
            test_part=self.test_part,
            image_column=self.image_column,
            label_column=self.label_column,
        )
        return {part: (shards, self._open_part(shards)) for part, shards in parts.items()}

    def _open_part(self, shards: Shards) -> EncodedFile:
        folder = self.cache_dir / shards_key(shards, _FORMAT)
        if not folder.exists():
            rank_zero_info(f"copying {shards.num_rows} images of {shards.paths[0].parent} once, into {folder}")
        return open_or_copy(folder, shards)
