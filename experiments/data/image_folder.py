"""A folder of image files, one sub-folder a class, as a data module."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from PIL import Image
from torchvision.datasets import ImageFolder as TorchvisionFolder

from supermix_pl.experiments.data.crops import CroppedImages
from supermix_pl.experiments.data.datamodule import Opened
from supermix_pl.experiments.data.rgb import open_rgb


class ImageFolder(CroppedImages):
    """Images from `<folder>/train/<class>/` and `<folder>/val/<class>/`, decoded by worker processes.

    Args:
        folder: Folder with `train` and `val`.
        arguments: Arguments of `CroppedImages`.
    """

    def __init__(self, *, folder: str | Path, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.folder = Path(folder).expanduser()

    def open_data(self) -> Opened:
        """Lists the files of both parts."""
        train, test = (self._part(name) for name in ("train", "val"))
        if train.classes != test.classes:
            different = sorted(set(train.classes) ^ set(test.classes))
            raise ValueError(
                f"expected the same classes in train and val of {self.folder}, got {different} in one only"
            )
        return self._opened_encoded(train=ImageFiles(train), test=ImageFiles(test), class_names=train.classes)

    def _part(self, name: str) -> TorchvisionFolder:
        folder = self.folder / name
        if not folder.is_dir():
            raise ValueError(f"expected a folder {folder} with one sub-folder a class, got none: check `folder`")
        return TorchvisionFolder(folder)


class ImageFiles:
    """The files that torchvision found, as `EncodedImages`.

    Args:
        folder: What torchvision found.
    """

    def __init__(self, folder: TorchvisionFolder) -> None:
        self._folder = folder
        self.labels: Int64[np.ndarray, " n"] = np.asarray(folder.targets, dtype=np.int64)

    def __getitem__(self, index: int) -> Image.Image:
        """Decodes a file."""
        path = self._folder.samples[index][0]
        return open_rgb(Path(path), path)
