"""Data sets in the Hugging Face layout as data modules: local Parquet shards, or a name of the Hub."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from supermix_pl.arguments import check_size
from supermix_pl.experiments.data.crops import CroppedImages
from supermix_pl.experiments.data.datamodule import ImageDataModule, Opened
from supermix_pl.experiments.data.decoded import cache_folder, decode_all, open_or_decode, statistics
from supermix_pl.experiments.data.huggingface import Choice, EncodedRows, class_names, open_folder, open_hub


@dataclass(kw_only=True, eq=False, repr=False)
class ParquetFolder(Choice, ImageDataModule):
    """Base of the data modules that read `train-*.parquet` and `test-*.parquet` in the Hugging Face layout."""

    folder: str | Path  # of the shards
    # Folder of what is read from the shards, as large as they are; None for `$XDG_CACHE_HOME/supermix_pl` or
    # `~/.cache/supermix_pl`
    cache_dir: str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.folder = Path(self.folder).expanduser()
        self.cache_dir = cache_folder(self.cache_dir)

    def prepare_data(self) -> None:
        """Fills what the cache lacks, in one process."""
        self.open_data()

    def open_rows(self) -> dict[str, EncodedRows]:
        """Opens the rows of "train" and "test", without what there is not."""
        return open_folder(Path(self.folder), self, cache_folder(self.cache_dir))


@dataclass(kw_only=True, eq=False, repr=False)
class Parquet(ParquetFolder):
    """Images from `train-*.parquet` and `test-*.parquet` (or `validation-*`, `val-*`).

    Every image is decoded once, without loss, into a uint8 array in `cache_dir`; later runs open it by memory map.
    Class names come from the schema's metadata. By default images are normalised with the statistics of the training
    images.
    """

    # Every image is resized and centre-cropped to this size or (height, width); needed where they differ
    size: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.size = self._height_width

    @property
    def _height_width(self) -> tuple[int, int] | None:
        return None if self.size is None else check_size("size", self.size)

    def open_data(self) -> Opened:
        parts = self.open_rows()
        paths = {role: self._path(rows) for role, rows in parts.items()}
        arrays = {role: (self._decoded(role, rows, paths[role]), rows.labels) for role, rows in parts.items()}
        first = next(iter(parts))  # that of training, if there is any
        mean, std = statistics(arrays[first][0], paths[first].with_suffix(".json"))
        return self._opened_arrays(
            train=arrays.get("train"),
            test=arrays.get("test"),
            class_names=class_names(parts.values()),
            mean=mean,
            std=std,
        )

    def _path(self, rows: EncodedRows) -> Path:
        suffix = "" if self._height_width is None else "-{}x{}".format(*self._height_width)
        return rows.path.with_name(f"{rows.path.stem}-{rows.column}{suffix}.npy")

    def _decoded(self, role: str, rows: EncodedRows, path: Path) -> UInt8[np.ndarray, "n 3 h w"]:
        count, size = len(rows.labels), self._height_width
        return open_or_decode(path, lambda: (count, decode_all(rows.decode, count, size)), f"{role} of {self.folder}")


@dataclass(kw_only=True, eq=False, repr=False)
class HuggingFace(Parquet):
    """Small images of a data set of the Hugging Face Hub, as `Parquet` opens those of a folder; parts are splits."""

    folder: str | Path = field(init=False)
    name: str = field()  # pyright: ignore[reportIncompatibleVariableOverride] # of the data set, such as "uoft-cs/cifar100", or a folder that `datasets` can open

    def __post_init__(self) -> None:
        self.folder = self.name
        super().__post_init__()

    def open_rows(self) -> dict[str, EncodedRows]:
        """Opens the rows of "train" and "test", first downloading what the cache lacks."""
        return open_hub(str(self.name), self, cache_folder(self.cache_dir))


@dataclass(kw_only=True, eq=False, repr=False)
class EncodedParquet(ParquetFolder, CroppedImages):
    """Images from Parquet shards in the Hugging Face layout, of any sizes, with the views of `ImageFolder`.

    `Parquet` is for small images of one size.
    """

    test_part: str | None = "validation"  # ImageNet's `test` has no labels

    def open_data(self) -> Opened:
        parts = self.open_rows()
        return self._opened_encoded(
            train=parts.get("train"), test=parts.get("test"), class_names=class_names(parts.values())
        )
