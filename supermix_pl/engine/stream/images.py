"""The images that sets are drawn from: earlier natural images, in 8 bits, each once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.engine.stream.quantization import dequantize, quantize
from supermix_pl.engine.stream.ring import Ring, part_of


class ImageStore:
    """The newest natural images with their classes.

    Args:
        capacity: Images at most, >= 1.
    """

    def __init__(self, capacity: int) -> None:
        self.ring = Ring(capacity)

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor] | None, capacity: int, device: torch.device) -> "ImageStore":
        """Take up the images among what the engine's `tensors` gave; an empty store, where that is None."""
        store = cls(capacity)
        if tensors is not None:
            store.ring = Ring.from_tensors(part_of(tensors, "images"), device, ())
        return store

    def add(self, images: Float[Tensor, "b c h w"], classes: Int[Tensor, " b"]) -> None:
        """Put images in, in the place of the oldest ones where there is no room."""
        levels, lowest, step = quantize(images)
        self.ring.add({"levels": levels, "lowest": lowest, "step": step, "classes": classes})

    def at(self, places: Int[Tensor, "b k"]) -> Float[Tensor, "b k c h w"]:
        """Return the images of sets."""
        held = {name: self._column(name)[places.flatten()] for name in ("levels", "lowest", "step")}
        return dequantize(held["levels"], held["lowest"], held["step"]).unflatten(0, places.shape)

    def classes(self, places: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """Return the classes of images."""
        return self._column("classes")[places]

    def _column(self, name: str) -> Tensor:
        column = self.ring.columns[name]
        assert isinstance(column, Tensor)
        return column


def images_fit(tensors: dict[str, Tensor], pixels: Float[Tensor, "b c h w"], capacity: int, num_classes: int) -> bool:
    """Return whether images that were saved are of the size, the precision and the classes of a run.

    Args:
        tensors: What was saved, by names such as "images/levels".
        pixels: A batch of the run.
        capacity: Images that its store keeps at most.
        num_classes: n.
    """
    held = part_of(tensors, "images")
    levels, lowest, classes, counts = (held.get(name) for name in ("levels", "lowest", "classes", "counts"))
    if levels is None or lowest is None or classes is None or counts is None:
        return False
    same = levels.shape[1:] == pixels.shape[1:] and lowest.dtype == pixels.dtype
    return same and int(counts[0]) == capacity and int(classes.max()) < num_classes


def image_bytes(images: Float[Tensor, "b c h w"]) -> int:
    """Return what an image of a batch takes in the store."""
    return images[0].numel() + 2 * images.shape[1] * images.element_size() + 8


def check_sources(sources: object) -> None:
    """Refuse what are no images (n, c, h, w) in floating point."""
    if not isinstance(sources, Tensor) or not sources.is_floating_point():
        kind = sources.dtype if isinstance(sources, Tensor) else type(sources).__name__
        raise TypeError(f"expected sources as a floating point tensor, normalised as the batches are, got {kind}")
    if sources.ndim != 4 or len(sources) == 0:
        raise ValueError(f"expected sources of shape (n, c, h, w), n >= 1, got {tuple(sources.shape)}")


def check_shape(sources: Float[Tensor, "n c h w"], pixels: Float[Tensor, "b c h w"]) -> None:
    """Refuse sources of another size than the batches."""
    if sources.shape[1:] != pixels.shape[1:]:
        raise ValueError(
            f"expected sources of the batches' shape {tuple(pixels.shape[1:])}, got {tuple(sources.shape[1:])}"
        )


def check_room(sources: Float[Tensor, "n c h w"], capacity: int) -> int:
    """Refuse more sources than there is room for; return their number."""
    if len(sources) > capacity:
        raise ValueError(
            f"expected a store that holds all {len(sources)} sources, got room for {capacity}: raise store_bytes, or "
            "give fewer sources"
        )
    return len(sources)
