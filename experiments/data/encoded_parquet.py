"""Parquet shards of large images as a data module: random resized crops, decoded anew for every view."""

from typing import Any

from supermix_pl.experiments.data.crops import CroppedImages
from supermix_pl.experiments.data.datamodule import Opened
from supermix_pl.experiments.data.huggingface import class_names
from supermix_pl.experiments.data.parquet import ParquetFolder


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
