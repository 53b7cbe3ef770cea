"""The embedded data set as a data module: drawn by the program, so that nothing is downloaded."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from supermix_pl.experiments.data.datamodule import ImageDataModule, LabelledImages, Opened

if TYPE_CHECKING:
    from supermix_pl.experiments.data.shapes import ShapeImages


@dataclass(kw_only=True, eq=False, repr=False)
class Shapes(ImageDataModule):
    """Textured objects of ten shapes on cluttered backgrounds; other arguments are those of `ImageDataModule`.

    After `setup`, `boxes` (test image, (x0, y0, x1, y1)) has the true box of the object in each test image, in the
    order of `test_dataloader`. `data_seed` also chooses the drawings.

    Args:
        train_size: Number of training images.
        test_size: Number of test images.
        size: Height and width of the images in pixels.
    """

    train_size: int = 5000
    test_size: int = 1000
    size: int = 32
    boxes: Int64[np.ndarray, "n 4"] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train_size", "test_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")

    def open_data(self) -> Opened:
        """Draws both parts, each from a seed of its own."""
        from supermix_pl.experiments.data.shapes import CLASS_NAMES, MEAN, STD, draw_shapes

        train = draw_shapes(self.train_size, seed=2 * self.data_seed, size=self.size)
        test = draw_shapes(self.test_size, seed=2 * self.data_seed + 1, size=self.size)
        self.boxes = np.asarray(test.boxes)
        return self._opened_arrays(
            train=_arrays(train), test=_arrays(test), class_names=list(CLASS_NAMES), mean=MEAN, std=STD
        )


def _arrays(drawn: "ShapeImages") -> LabelledImages:
    return np.asarray(drawn.images), np.asarray(drawn.labels)
