"""Opening encoded images as RGB of 8 bits a channel."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_TO_8_BITS = 257  # 65535 / 255
_FORMATS = {b"\xff\xd8": ("JPEG",), b"\x89PNG": ("PNG",), b"RIFF": ("WEBP",)}


def open_rgb(source: Path | bytes, place: str) -> Image.Image:
    """Decodes an image into RGB; grey ones of 16 bits are scaled, so that 65535 is white.

    Args:
        source: A file, or its bytes.
        place: What a message calls it.

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
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        size = "" if isinstance(source, Path) else f"{len(source)} other bytes in "
        raise ValueError(f"expected an image that Pillow can decode, got {size}{place}: {error}") from error
    kind = "32-bit integers" if mode == "I" else "floating point numbers"
    raise ValueError(
        f"expected an image of 8 or 16 bits a channel, got {kind} (Pillow's mode {mode!r}, up to {top:g}) in {place}: "
        "which of them is white is not known; convert it to 8 or 16 bits first"
    )


def _scaled(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float32) / _TO_8_BITS
    return Image.fromarray(values.round().astype(np.uint8)).convert("RGB")
