"""When pictures of mixes are drawn during training, and where they go."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from supermix_pl.mixing import MixedBatch
from supermix_pl.pictures.grid import sets_to_show, titled_grid
from supermix_pl.teacher.frozen import FrozenTeacher

_NAME = "supermix/mixes"


class Pictures:
    """Draws every n-th batch on rank 0: the first that is mixed, and the first mixed one after every n batches.

    Loggers that take images get them as "supermix/mixes" (TensorBoard, Weights & Biases); where there is none, they go
    to the folder `supermix` of the run's, as PNG, on which all ranks agree here. A batch that is not drawn costs a
    comparison of integers.

    Raises:
        ModuleNotFoundError: Without matplotlib.
    """

    def __init__(self, every: int, trainer: Any) -> None:
        if find_spec("matplotlib") is None:
            raise ModuleNotFoundError(
                'expected matplotlib for log_images_every, got none; pip install "supermix_pl[experiments]", or leave '
                "log_images_every out"
            )
        self._every = every
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "supermix"
        self._draws = trainer.is_global_zero
        self._next = 0

    def wants(self, number: int, trainer: Any) -> bool:
        """Return whether the mixed batch of this number is to be drawn; not in Lightning's finders and trial runs."""
        if not self._draws or number < self._next:
            return False
        return not trainer.barebones and not any(type(own).__name__ == "DummyLogger" for own in trainer.loggers)

    def draw(
        self,
        number: int,
        trainer: Any,
        step: int,
        images: Float[Tensor, "b c h w"],
        mix: MixedBatch,
        teacher: FrozenTeacher | None,
    ) -> None:
        """Draw some sets of batch `number` and hand the picture to the trainer's loggers, as of `step`.

        Names of classes are the data module's `class_names`, if it has them. The teacher may know what the images are
        normalised with; else they are stretched to [0, 1] for the eye.
        """
        self._next = (number // self._every + 1) * self._every
        sets = sets_to_show(
            images,
            mix,
            mean=None if teacher is None else teacher.input_mean,
            std=None if teacher is None else teacher.input_std,
            class_names=getattr(trainer.datamodule, "class_names", None),
        )
        picture = titled_grid(sets)
        taken = [_log(logger, picture, step) for logger in trainer.loggers]
        if not any(taken):
            self._folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(self._folder / f"mixes_{number:08d}.png")


def _log(logger: Any, picture: UInt8[np.ndarray, "h w 3"], step: int) -> bool:
    """Hand a picture to a logger; False if it takes none."""
    if callable(getattr(logger, "log_image", None)):  # WandbLogger
        logger.log_image(_NAME, [picture], step=step)
        return True
    add_image = getattr(logger.experiment, "add_image", None)  # TensorBoardLogger
    if not callable(add_image):
        return False
    add_image(_NAME, picture, step, dataformats="HWC")
    return True
