"""Data sets in the Hugging Face layout as data modules: local Parquet shards, or a name of the Hub."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from supermix_pl.experiments.data.crops import CroppedImages
from supermix_pl.experiments.data.datamodule import ImageDataModule, Opened, height_width
from supermix_pl.experiments.data.decoded import DecodedImages, decode_all, default_cache_dir, open_or_decode
from supermix_pl.experiments.data.huggingface import Choice, EncodedRows, class_names, open_folder, open_hub


class ParquetFolder(ImageDataModule):
    """Base of the data modules that read `train-*.parquet` and `test-*.parquet` in the Hugging Face layout.

    Args:
        folder: Folder of the shards.
        test_part: First word of the names of the test shards; `None` for `test`, `validation` or `val`. The same word
            as `train_part` trains and tests on the same images.
        train_part: First word of the names of the training shards.
        image_column: Column of images (a struct with `bytes`, or binary); found by its type when `None`.
        label_column: Column of integer labels; found by its name when `None`.
        cache_dir: Folder of what is read from the shards, as large as they are; `None` for
            `$XDG_CACHE_HOME/supermix_pl` or `~/.cache/supermix_pl`.
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

    def prepare_data(self) -> None:
        """Fills what the cache lacks, in one process."""
        self.open_data()

    def open_rows(self) -> dict[str, EncodedRows]:
        """Opens the rows of "train" and "test", without what there is not."""
        return open_folder(self.folder, self._choice(), self.cache_dir)

    def _choice(self) -> Choice:
        return Choice(**{each.name: getattr(self, each.name) for each in fields(Choice)})


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
        self, *, test_part: str | None = None, size: int | Sequence[int] | None = None, **arguments: Any
    ) -> None:
        super().__init__(test_part=test_part, **arguments)
        self.size = None if size is None else height_width(size)

    def open_data(self) -> Opened:
        """Opens the decoded images of both parts, first decoding what the cache lacks."""
        parts = self.open_rows()
        decoded = {role: self._decoded(role, rows) for role, rows in parts.items()}
        arrays = {role: (decoded[role].images, rows.labels) for role, rows in parts.items()}
        first = next(iter(decoded.values()))  # of training, if there is any
        return self._opened_arrays(
            train=arrays.get("train"),
            test=arrays.get("test"),
            class_names=class_names(parts.values()),
            mean=first.mean,
            std=first.std,
        )

    def _decoded(self, role: str, rows: EncodedRows) -> DecodedImages:
        count, place = len(rows.labels), f"{role} of {self.folder}"
        size = "" if self.size is None else "-{}x{}".format(*self.size)
        folder = rows.path.with_name(f"{rows.path.stem}-{rows.column}{size}")
        return open_or_decode(folder, lambda: (count, decode_all(rows.decode, count, self.size)), place)


class HuggingFace(Parquet):
    """Small images of a data set of the Hugging Face Hub, as `Parquet` opens those of a folder.

    Args:
        name: Name of the data set, such as "uoft-cs/cifar100", or a folder that `datasets` can open.
        arguments: Arguments of `Parquet`; the parts are the data set's splits.
    """

    def __init__(self, *, name: str, **arguments: Any) -> None:
        super().__init__(folder=name, **arguments)
        self.name = name

    def open_rows(self) -> dict[str, EncodedRows]:
        """Opens the rows of "train" and "test", first downloading what the cache lacks."""
        return open_hub(str(self.name), self._choice(), self.cache_dir)


class EncodedParquet(ParquetFolder, CroppedImages):
    """Images from Parquet shards in the Hugging Face layout, of any sizes, with the views of `ImageFolder`.

    `Parquet` is for small images of one size.

    Args:
        test_part: First word of the names of the test shards (ImageNet's `test` has no labels); see `ParquetFolder`.
        arguments: Arguments of `ParquetFolder` and `CroppedImages`.
    """

    def __init__(self, *, test_part: str | None = "validation", **arguments: Any) -> None:
        super().__init__(test_part=test_part, **arguments)

    def open_data(self) -> Opened:
        """Opens the encoded images of both parts."""
        parts = self.open_rows()
        return self._opened_encoded(
            train=parts.get("train"), test=parts.get("test"), class_names=class_names(parts.values())
        )
