"""Files below a folder, behind links to folders too."""

import os
from collections.abc import Iterator
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS


def images_below(folder: Path) -> Iterator[Path]:
    """Yields the image files of a folder and of all folders below it, links to folders included, each folder once.

    Raises:
        OSError: If one of them cannot be read.
    """
    seen = set()
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(place) / name for name in sorted(names) if name.lower().endswith(IMG_EXTENSIONS))


def _refuse(error: OSError) -> None:
    """Raises what `os.walk` leaves out silently."""
    raise error
