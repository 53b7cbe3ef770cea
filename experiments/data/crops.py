"""Large images: random resized crops, centre crops and decoding workers; and a folder of image files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision.transforms import v2

from supermix_pl.arguments import check_at_least, check_size
from supermix_pl.experiments.data.augment import CropFlip, SmallImageView
from supermix_pl.experiments.data.datamodule import ImageDataModule, Opened
from supermix_pl.experiments.data.decoding import DecodingSource, EncodedImages
from supermix_pl.experiments.data.pixels import Normalisation
from supermix_pl.experiments.data.rgb import EncodedFiles, images_below

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(kw_only=True, eq=False, repr=False)
class CroppedImages(ImageDataModule):
    """Base of the data modules of large images, decoded by worker processes.

    Training views are random resized crops and flips, then `augment` if it is a policy such as `RandAugment`;
    evaluation resizes the short side and crops the centre. Normalised with the usual ImageNet statistics by default.
    """

    size: int | Sequence[int] = 224  # height and width of what the loaders give, or (height, width)
    resize_ratio: float = 256 / 224  # size before the centre crop over the size after it; 256 / 224 is the usual one
    num_workers: int | None = None  # decoding processes; None for one less than the cores, at most 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.augment, CropFlip | SmallImageView):
            raise TypeError(
                f"expected augment=True, False or a policy, got a {type(self.augment).__name__}, whose crop is for "
                "small images: large ones take random resized crops, so choose an augment=imagenet_... or default"
            )
        if self.resize_ratio < 1:
            raise ValueError(f"expected resize_ratio >= 1, got {self.resize_ratio}")
        if self.num_workers is None:
            self.num_workers = max(0, min(16, (os.cpu_count() or 1) - 1))
        check_at_least("num_workers", self.num_workers, 0)
        self.size = check_size("size", self.size)

    def _opened_encoded(
        self, *, train: EncodedImages | None, test: EncodedImages | None, class_names: list[str]
    ) -> Opened:
        """Wraps encoded images; for subclasses."""
        normalisation = Normalisation(self.mean or MEAN, self.std or STD)
        size = check_size("size", self.size)
        short_side = round(max(size) * self.resize_ratio)
        evaluation = v2.Compose([v2.Resize(short_side), v2.CenterCrop(size), v2.PILToTensor()])
        training = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), v2.PILToTensor()])

        def source(images: EncodedImages) -> DecodingSource:
            return DecodingSource(
                images=images,
                training_view=training if self.augment else evaluation,
                evaluation_view=evaluation,
                augment=None if isinstance(self.augment, bool) else self.augment,
                normalisation=normalisation,
                num_workers=self.num_workers or 0,
            )

        return Opened(
            train=None if train is None else source(train),
            test=None if test is None else source(test),
            class_names=class_names,
            image_size=size,
            normalisation=normalisation,
        )


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
