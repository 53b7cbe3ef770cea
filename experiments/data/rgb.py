"""Image files: finding them, and opening encoded images as RGB of 8 bits a channel."""

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_OF_12_BITS = 4096
_TO_8_BITS = 257  # 65535 / 255
_FORMATS = {b"\xff\xd8": ("JPEG",), b"\x89PNG": ("PNG",), b"RIFF": ("WEBP",)}


class EncodedFiles:
    """Image files, as `EncodedImages`.

    Args:
        paths: The files.
        labels: Class of every one; -1 if they have none.
    """

    def __init__(self, paths: Sequence[Path], labels: Sequence[int] | None = None) -> None:
        self.paths = paths
        self.labels: Int64[np.ndarray, " n"] = np.asarray([-1] * len(paths) if labels is None else labels, np.int64)

    def __getitem__(self, index: int) -> Image.Image:
        return open_rgb(self.paths[index], str(self.paths[index]))

    def decode(self, indices: range) -> Iterator[Image.Image]:
        """Yields neighbouring images in RGB."""
        return map(self.__getitem__, indices)


def images_below(folder: Path) -> Iterator[Path]:
    """Yields the image files of a folder and of all folders below it, links to folders included, each folder once.

    Raises:
        OSError: If one of them cannot be read.
    """

    def refuse(error: OSError) -> None:  # which `os.walk` would leave out silently
        raise error

    seen = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(place) / name for name in sorted(names) if name.lower().endswith(IMG_EXTENSIONS))


def open_rgb(source: Path | bytes, place: str) -> Image.Image:
    """Decodes a file, or its bytes, into RGB; grey images of 16 bits are scaled, so that 65535 is white.

    Where no pixel of these has more than 12 bits a warning says that they come out black.

    Raises:
        ValueError: If Pillow cannot decode it, or its pixels have no known white; the message says in which place.
    """
    encoded = b"" if isinstance(source, Path) else source
    # Trying every format that Pillow knows would take as long as decoding
    formats = next((kinds for start, kinds in _FORMATS.items() if encoded.startswith(start)), None)
    try:
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=formats) as image:
            image.load()
            if image.mode in _SIXTEEN_BITS:
                return _scaled(image)
            if image.mode not in ("I", "F"):
                return image.convert("RGB")
            mode, top = image.mode, image.getextrema()[1]
    except Exception as error:  # what a decoder of garbage stumbles over may be of any kind
        size = "" if isinstance(source, Path) else f"{len(source)} other bytes in "
        raise ValueError(f"expected an image that Pillow can decode, got {size}{place}: {error}") from error
    kind = "32-bit integers" if mode == "I" else "floating point numbers"
    raise ValueError(
        f"expected an image of 8 or 16 bits a channel, got {kind} (Pillow's mode {mode!r}, up to {top:g}) in {place}: "
        "which of them is white is not known; convert it to 8 or 16 bits first"
    )


def _scaled(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float32)
    if 0 < values.max() < _OF_12_BITS:
        warnings.warn(
            "a grey image of 16 bits has no value above 4095, as those of 12 bits and fewer in such files have: white "
            "is 65535 here, so they come out black; scale their values to 16 bits first",
            stacklevel=2,
        )
    return Image.fromarray((values / _TO_8_BITS).round().astype(np.uint8)).convert("RGB")
