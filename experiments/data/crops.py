"""What data modules of large images have in common: random resized crops, centre crops, decoding workers."""

import os
from collections.abc import Sequence
from typing import Any

from torchvision.transforms import v2

from supermix_pl.experiments.data.augment import CropFlip, SmallImageView
from supermix_pl.experiments.data.datamodule import ImageDataModule, Opened, height_width
from supermix_pl.experiments.data.decoding import DecodingSource, EncodedImages

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class CroppedImages(ImageDataModule):
    """Base of the data modules of large images, decoded by worker processes.

    Training views are random resized crops and flips, then `augment` if it is a policy; evaluation resizes the short
    side and crops the centre. Normalised with the usual ImageNet statistics by default.

    Args:
        size: Height and width of what the loaders give, or (height, width).
        resize_ratio: Size before the centre crop over the size after it; 256 / 224 is the usual one.
        num_workers: Decoding processes; `None` for one less than the cores, at most 16.
        common: Arguments of `ImageDataModule`; `augment` is True, False or a policy such as `RandAugment`.
    """

    def __init__(
        self,
        *,
        size: int | Sequence[int] = 224,
        resize_ratio: float = 256 / 224,
        num_workers: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if isinstance(self.augment, CropFlip | SmallImageView):
            raise TypeError(
                f"expected augment=True, False or a policy, got a {type(self.augment).__name__}, whose crop is for "
                "small images: large ones take random resized crops, so choose an augment=imagenet_... or default"
            )
        if resize_ratio < 1:
            raise ValueError(f"expected resize_ratio >= 1, got {resize_ratio}")
        if num_workers is not None and num_workers < 0:
            raise ValueError(f"expected num_workers >= 0, got {num_workers}: 0 decodes in the training process")
        self.size = height_width(size)
        self.resize_ratio = resize_ratio
        self.num_workers = max(0, min(16, (os.cpu_count() or 1) - 1)) if num_workers is None else num_workers

    def _opened_encoded(
        self, *, train: EncodedImages | None, test: EncodedImages | None, class_names: list[str]
    ) -> Opened:
        """Wraps encoded images; for subclasses."""
        mean, std = self.mean or MEAN, self.std or STD
        evaluation = _evaluation_view(self.size, self.resize_ratio)

        def source(images: EncodedImages) -> DecodingSource:
            return DecodingSource(
                images=images,
                training_view=_training_view(self.size) if self.augment else evaluation,
                evaluation_view=evaluation,
                augment=None if isinstance(self.augment, bool) else self.augment,
                mean=mean,
                std=std,
                num_workers=self.num_workers,
            )

        return Opened(
            train=None if train is None else source(train),
            test=None if test is None else source(test),
            class_names=class_names,
            image_size=self.size,
            mean=mean,
            std=std,
        )


def _training_view(size: tuple[int, int]) -> v2.Transform:
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), v2.PILToTensor()])


def _evaluation_view(size: tuple[int, int], ratio: float) -> v2.Transform:
    short_side = round(max(size) * ratio)
    return v2.Compose([v2.Resize(short_side), v2.CenterCrop(size), v2.PILToTensor()])
