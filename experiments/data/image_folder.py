"""A folder of image files, one sub-folder a class, as a data module."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from PIL import Image

from supermix_pl.experiments.data.crops import CroppedImages
from supermix_pl.experiments.data.datamodule import Opened
from supermix_pl.experiments.data.rgb import images_below, open_rgb


class ImageFolder(CroppedImages):
    """Images from `<folder>/train/<class>/` and `<folder>/val/<class>/`, decoded by worker processes.

    Images may lie at any depth below the folder of their class, also behind links to folders.

    Args:
        folder: Folder with `train` and `val`.
        arguments: Arguments of `CroppedImages`.
    """

    def __init__(self, *, folder: str | Path, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.folder = Path(folder).expanduser()

    def open_data(self) -> Opened:
        """Lists the files of both parts."""
        train, test = (self._class_names(name) for name in ("train", "val"))
        if train != test:
            different = sorted(set(train) ^ set(test))
            raise ValueError(
                f"expected the same classes in train and val of {self.folder}, got {different} in one only"
            )
        files = {name: ImageFiles(self.folder / name, train) for name in ("train", "val")}
        return self._opened_encoded(train=files["train"], test=files["val"], class_names=train)

    def _class_names(self, part: str) -> list[str]:
        folder = self.folder / part
        found = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        if not found:
            raise ValueError(f"expected a folder {folder} with one sub-folder a class, got none: check `folder`")
        return found


class ImageFiles:
    """Image files in one sub-folder a class, as `EncodedImages`; none in one of them is an error."""

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self.paths: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(class_names):
            paths = list(images_below(folder / name))
            if not paths:
                raise ValueError(f"expected image files in {folder / name}, got none: add some, or remove the class")
            self.paths += paths
            labels += [label] * len(paths)
        self.labels: Int64[np.ndarray, " n"] = np.asarray(labels, dtype=np.int64)

    def __getitem__(self, index: int) -> Image.Image:
        return open_rgb(self.paths[index], str(self.paths[index]))
