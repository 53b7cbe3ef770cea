"""Decoded images on disk: one uint8 array, written once, opened by memory map."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from supermix_pl.experiments.data.cache_folder import describe, open_or_fill, read_description


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedImages:
    """Images of one part of a data set, decoded.

    Args:
        images: Pixels, memory-mapped and read-only.
        labels: Classes.
        mean: Mean of each channel on the scale [0, 1].
        std: Standard deviation of each channel on the scale [0, 1].
    """

    images: UInt8[np.ndarray, "n 3 h w"]
    labels: Int64[np.ndarray, " n"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def open_or_build(folder: Path, build: Callable[[Path], Int64[np.ndarray, " n"]]) -> CachedImages:
    """Opens a cache folder, first filling it if it is missing, partial or corrupt; see `open_or_fill`.

    Args:
        folder: The cache folder of this data.
        build: Writes the images to the `.npy` file that it is given, and returns the labels.
    """

    def fill(temporary: Path) -> None:
        np.save(temporary / "labels.npy", build(temporary / "images.npy"))
        mean, std = _statistics(np.load(temporary / "images.npy", mmap_mode="r"))
        describe(temporary, ["images.npy", "labels.npy"], mean=mean, std=std)

    return open_or_fill(folder, fill=fill, read=_open)


def _open(folder: Path) -> CachedImages | None:
    about = read_description(folder)
    if about is None:
        return None
    images = np.asarray(np.load(folder / "images.npy", mmap_mode="r"))
    labels = np.load(folder / "labels.npy")
    return CachedImages(images=images, labels=labels, mean=tuple(about["mean"]), std=tuple(about["std"]))


def _statistics(images: UInt8[np.ndarray, "n 3 h w"]) -> tuple[list[float], list[float]]:
    counts = np.sum(list(_histograms(images)), axis=0)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    std = np.sqrt(counts @ values**2 / counts.sum(1) - mean**2)
    return mean.tolist(), std.tolist()


def _histograms(images: UInt8[np.ndarray, "n 3 h w"]) -> Iterator[Int64[np.ndarray, "3 256"]]:
    rows = max(1, (1 << 24) // images[0].size)
    for start in range(0, len(images), rows):
        block = images[start : start + rows]
        yield np.stack([np.bincount(block[:, channel].ravel(), minlength=256) for channel in range(3)])
