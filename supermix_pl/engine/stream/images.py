"""The images that sets are drawn from: earlier natural images, in 8 bits, each once."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from supermix_pl.engine.stream.ring import Ring, part_of
from supermix_pl.mixing.sampling import Pairing, choose_sources
from supermix_pl.solver.rows import to_device

LEVELS = 255


class ImageStore:
    """The newest natural images with their classes, `capacity` at most."""

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

    def choose_sets(
        self, candidates: Int[np.ndarray, " m"], count: int, k: int, pairing: Pairing, rng: np.random.Generator
    ) -> Int[Tensor, "count k"]:
        """Choose the sources of sets among images at some places, k <= m, at random; see `choose_sources`."""
        device = self.ring.columns["classes"].device
        window = to_device(candidates, device)
        ranks = to_device(rng.random((count, len(candidates)), dtype=np.float32), device)
        return window[choose_sources(ranks, self.classes(window) if pairing == "distinct" else None, k)]

    def at(self, places: Int[Tensor, "b k"]) -> Float[Tensor, "b k c h w"]:
        """Return the images of sets."""
        held = (self.ring.columns[name][places.flatten()] for name in ("levels", "lowest", "step"))
        return dequantize(*held).unflatten(0, places.shape)

    def classes(self, places: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """Return the classes of images."""
        return self.ring.columns["classes"][places]


def quantize(
    images: Float[Tensor, "b c h w"],
) -> tuple[UInt8[Tensor, "b c h w"], Float[Tensor, "b c"], Float[Tensor, "b c"]]:
    """Round images to 256 levels between the least and the greatest pixel of each channel.

    Returns:
        The levels, and per channel the value of level 0 and the step between levels, for `dequantize`. Its error is at
        most half a step.
    """
    lowest, highest = images.amin(dim=(2, 3)), images.amax(dim=(2, 3))
    step = ((highest - lowest) / LEVELS).clamp_min(torch.finfo(images.dtype).tiny)
    levels = (images - lowest[:, :, None, None]) / step[:, :, None, None]
    return levels.round().clamp(0, LEVELS).to(torch.uint8), lowest, step


def dequantize(
    levels: UInt8[Tensor, "b c h w"], lowest: Float[Tensor, "b c"], step: Float[Tensor, "b c"]
) -> Float[Tensor, "b c h w"]:
    """Return the images that `quantize` rounded."""
    return levels.to(step.dtype) * step[:, :, None, None] + lowest[:, :, None, None]


def image_bytes(images: Float[Tensor, "b c h w"]) -> int:
    """Return what an image of a batch takes in the store."""
    return images[0].numel() + 2 * images.shape[1] * images.element_size() + 8


def read_sources(sources: Float[Tensor, "n c h w"] | Dataset, room: int) -> Float[Tensor, "n c h w"]:
    """Return images as a tensor; they take no more bytes than `room`; those of a data set are read one by one."""
    if not isinstance(sources, Tensor):
        sources = _stacked(sources, room)
    if not sources.is_floating_point():
        raise TypeError(f"expected floating point sources, normalised as the batches are, got {sources.dtype}")
    if sources.ndim != 4 or len(sources) == 0:
        raise ValueError(f"expected sources of shape (n, c, h, w), n >= 1, got {tuple(sources.shape)}")
    check_room(len(sources), image_bytes(sources), room)
    return sources


def _stacked(dataset: Any, room: int) -> Tensor:
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")) or isinstance(dataset, Mapping | str):
        raise TypeError(
            "expected sources as a tensor (n, c, h, w) or a data set with a length, whose items are images or begin "
            f"with one, got {type(dataset).__name__}"
        )
    if len(dataset) == 0:
        return torch.zeros(0)
    first = _image_of(dataset[0])
    if first.ndim == 3:
        check_room(len(dataset), image_bytes(first[None]), room)
    shape = first.shape
    images = [first, *(_image_of(dataset[place]) for place in range(1, len(dataset)))]
    other = next((image for image in images if image.shape != shape), None)
    if other is not None:
        raise ValueError(f"expected sources of one size, got {tuple(shape)} and {tuple(other.shape)}")
    return torch.stack(images)


def _image_of(item: Any) -> Tensor:
    image = item[0] if isinstance(item, list | tuple) and len(item) else item
    if not isinstance(image, Tensor):
        raise TypeError(
            "expected a data set whose items are images as tensors (c, h, w) or begin with one, got an item of type "
            f"{type(item).__name__}{'' if image is item else f' with {type(image).__name__} first'}; normalise the "
            "images as the batches are, and give a data set or a tensor of them"
        )
    return image


def check_shape(sources: Float[Tensor, "n c h w"], pixels: Float[Tensor, "b c h w"]) -> None:
    """Refuse sources of another size than the batches."""
    if sources.shape[1:] != pixels.shape[1:]:
        raise ValueError(
            f"expected sources of the batches' shape {tuple(pixels.shape[1:])}, got {tuple(sources.shape[1:])}"
        )


def check_room(count: int, bytes_each: int, store_bytes: int) -> None:
    """Refuse more sources than there is room for."""
    if count * bytes_each > store_bytes:
        raise ValueError(
            f"expected a store that holds all {count} sources, {count * bytes_each} bytes, got "
            f"store_bytes={store_bytes}; raise it well above that, as solved sets lie beside them, or give fewer"
        )
