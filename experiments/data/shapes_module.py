"""The embedded data set as a data module: drawn by the program, so that nothing is downloaded."""

from typing import TYPE_CHECKING, Any

import numpy as np

from supermix_pl.arguments import check_at_least
from supermix_pl.experiments.data.datamodule import ImageDataModule, LabelledImages, Opened

if TYPE_CHECKING:
    from supermix_pl.experiments.data.shapes import ShapeImages


class Shapes(ImageDataModule):
    """Textured objects of ten shapes on cluttered backgrounds.

    `data_seed` also chooses the drawings.

    Args:
        train_size: Number of training images.
        test_size: Number of test images.
        size: Height and width of the images in pixels.
        common: Arguments of `ImageDataModule`.
    """

    def __init__(
        self,
        *,
        train_size: int = 5000,
        test_size: int = 1000,
        size: int = 32,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        for name, value in {"train_size": train_size, "test_size": test_size}.items():
            check_at_least(name, value, 1)
        self.train_size = train_size
        self.test_size = test_size
        self.size = size

    def open_data(self) -> Opened:
        """Draws both parts, each from a seed of its own."""
        from supermix_pl.experiments.data.shapes import CLASS_NAMES, MEAN, STD, draw_shapes

        train = draw_shapes(self.train_size, seed=2 * self.data_seed, size=self.size)
        test = draw_shapes(self.test_size, seed=2 * self.data_seed + 1, size=self.size)
        return self._opened_arrays(
            train=_arrays(train), test=_arrays(test), class_names=list(CLASS_NAMES), mean=MEAN, std=STD
        )


def _arrays(drawn: "ShapeImages") -> LabelledImages:
    return np.asarray(drawn.images), np.asarray(drawn.labels)
