"""A folder of image files, one sub-folder a class, as a data module."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from supermix_pl.experiments.data.crops import CroppedImages
from supermix_pl.experiments.data.datamodule import Opened
from supermix_pl.experiments.data.rgb import EncodedFiles, images_below


@dataclass(kw_only=True, eq=False, repr=False)
class ImageFolder(CroppedImages):
    """Images from `<folder>/train/<class>/` and `<folder>/val/<class>/`, decoded by worker processes.

    Images may lie at any depth below the folder of their class, also behind links to folders.
    """

    folder: str | Path  # with `train` and `val`

    def __post_init__(self) -> None:
        super().__post_init__()
        self.folder = Path(self.folder).expanduser()

    def open_data(self) -> Opened:
        """Lists the files of both parts."""
        train, test = (self._class_names(name) for name in ("train", "val"))
        if train != test:
            different = sorted(set(train) ^ set(test))
            raise ValueError(
                f"expected the same classes in train and val of {self.folder}, got {different} in one only"
            )
        return self._opened_encoded(
            train=self._files("train", train), test=self._files("val", train), class_names=train
        )

    def _class_names(self, part: str) -> list[str]:
        folder = Path(self.folder) / part
        found = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        if not found:
            raise ValueError(f"expected a folder {folder} with one sub-folder a class, got none: check `folder`")
        return found

    def _files(self, part: str, class_names: Sequence[str]) -> EncodedFiles:
        found = [list(images_below(Path(self.folder) / part / name)) for name in class_names]
        if [] in found:
            folder = Path(self.folder) / part / class_names[found.index([])]
            raise ValueError(f"expected image files in {folder}, got none: add some, or remove the class")
        labels = np.repeat(np.arange(len(found)), [len(paths) for paths in found])
        return EncodedFiles([path for paths in found for path in paths], labels.tolist())
