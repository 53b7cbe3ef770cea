"""The images that sets are drawn from: earlier natural images, in 8 bits, each once."""

from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.engine.stream.quantization import dequantize, quantize
from supermix_pl.engine.stream.ring import Ring


class ImageStore:
    """The newest natural images with their classes.

    Args:
        capacity: Images at most, >= 1.
    """

    def __init__(self, capacity: int) -> None:
        self.ring = Ring(capacity)

    def add(self, images: Float[Tensor, "b c h w"], classes: Int[Tensor, " b"]) -> None:
        """Put images in, in the place of the oldest ones where there is no room."""
        levels, lowest, step = quantize(images)
        self.ring.add({"levels": levels, "lowest": lowest, "step": step, "classes": classes})

    def at(self, places: Int[Tensor, "b k"]) -> Float[Tensor, "b k c h w"]:
        """Give the images of sets."""
        held = {name: self._column(name)[places.flatten()] for name in ("levels", "lowest", "step")}
        return dequantize(held["levels"], held["lowest"], held["step"]).unflatten(0, places.shape)

    def classes(self, places: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """Give the classes of images."""
        return self._column("classes")[places]

    def _column(self, name: str) -> Tensor:
        column = self.ring.columns[name]
        assert isinstance(column, Tensor)
        return column


def image_bytes(images: Float[Tensor, "b c h w"]) -> int:
    """Say what an image of a batch takes in the store."""
    return images[0].numel() + 2 * images.shape[1] * images.element_size() + 8
