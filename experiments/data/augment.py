"""Training view of small images: a random crop of the zero-padded image and a random horizontal flip."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16, UInt8


@dataclass(frozen=True, kw_only=True)
class CropFlip:
    """Random crop with zero padding and horizontal flip, a batch at a time.

    Drawing is apart from applying: one call draws for every sample of an epoch, so a sample's view does not depend on
    the batch, the order or the rank that meets it.

    Args:
        padding: Black pixels added on every side before the crop, at least 0.
        flip: Whether half of the views are mirrored.
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"expected padding >= 0, got {self.padding}: 0 turns the crop off")

    def draw(self, generator: np.random.Generator, count: int) -> Int16[np.ndarray, "n 3"]:
        """Draws top offset, left offset and flip (0 or 1) of `count` views."""
        offsets = generator.integers(0, 2 * self.padding, size=(count, 2), endpoint=True, dtype=np.int16)
        flips = generator.integers(0, int(self.flip), size=(count, 1), endpoint=True, dtype=np.int16)
        return np.concatenate([offsets, flips], axis=1)

    def apply(
        self, images: UInt8[np.ndarray, "b c h w"], draws: Int16[np.ndarray, "b 3"]
    ) -> UInt8[np.ndarray, "b c h w"]:
        """Returns the views of images that `draws`, one row for each image, describe."""
        top, left, mirrored = draws.T
        b, c, h, w = images.shape
        pad = self.padding
        padded = np.zeros((b, c, h + 2 * pad, w + 2 * pad), dtype=np.uint8)  # np.pad takes five times as long
        padded[:, :, pad : pad + h, pad : pad + w] = images
        crops = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(2, 3))
        views = crops[np.arange(b), :, top, left]
        mirrored = mirrored.astype(bool)
        views[mirrored] = views[mirrored][..., ::-1]
        return views
