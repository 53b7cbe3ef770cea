"""What data modules of Parquet shards have in common: a folder, its parts, their columns, a cache."""

from pathlib import Path
from typing import Any, Required, TypedDict

from supermix_pl.experiments.data.cache_folder import default_cache_dir
from supermix_pl.experiments.data.datamodule import ImageDataModule
from supermix_pl.experiments.data.parquet_shards import Shards, find_parts


class FolderArguments(TypedDict, total=False):
    """Arguments that data modules of Parquet shards hand on to `ParquetFolder`, which says what they are."""

    folder: Required[str | Path]
    train_part: str
    image_column: str | None
    label_column: str | None
    cache_dir: str | Path | None


class ParquetFolder(ImageDataModule):
    """Base of the data modules that read `train-*.parquet` and `test-*.parquet` in the Hugging Face layout.

    Args:
        folder: Folder of the shards.
        test_part: First word of the names of the test shards; `None` for `test`, `validation` or `val`. The same word
            as `train_part` trains and tests on the same images.
        train_part: First word of the names of the training shards.
        image_column: Column of images (a struct with `bytes`, or binary); found by its type when `None`.
        label_column: Column of integer labels; found by its name when `None`.
        cache_dir: Folder of what is read from the shards; `None` for `$XDG_CACHE_HOME/supermix_pl` or
            `~/.cache/supermix_pl`.
        arguments: Arguments of the next base.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        test_part: str | None,
        train_part: str = "train",
        image_column: str | None = None,
        label_column: str | None = None,
        cache_dir: str | Path | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.folder = Path(folder).expanduser()
        self.train_part = train_part
        self.test_part = test_part
        self.image_column = image_column
        self.label_column = label_column
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()

    def find_parts(self) -> dict[str, Shards]:
        """Finds the shards of "train" and "test", without what there is not."""
        return find_parts(
            self.folder,
            train_part=self.train_part,
            test_part=self.test_part,
            image_column=self.image_column,
            label_column=self.label_column,
        )
