"""The files of the down-sampled ImageNet release: `train_data_batch_1.npz` to `_10.npz`."""

import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

_NAME = re.compile(r"train_data_batch_(\d+)(\.npz)?")


def find_batches(folder: Path) -> list[Path]:
    """Return the training batches of a folder in the order of their numbers, the `.npz` one where there are both."""
    found = {}
    for path in sorted(folder.glob("train_data_batch_*")):  # x.npz comes after x
        match = _NAME.fullmatch(path.name)
        if match is not None:
            found[int(match[1])] = path
    return [found[number] for number in sorted(found)]


def is_batch(path: Path) -> bool:
    """Return whether a file has the name of a training batch."""
    return _NAME.fullmatch(path.name) is not None


def read_batch(path: Path) -> UInt8[np.ndarray, "n 3 s s"]:
    """Reads the images of one batch.

    Raises:
        ValueError: If the file is not of this kind, or is a pickled one, which could run anything; the message says
            what to do.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            data = arrays["data"]
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            f"expected a batch of the down-sampled ImageNet as .npz with an array `data`, got {path}, which cannot be "
            f"read ({error}): download the release in the .npz format, not the pickled one"
        ) from error
    side = round((data.shape[-1] / 3) ** 0.5) if data.ndim == 2 else 0
    if not side or data.dtype != np.uint8 or data.shape[1] != 3 * side * side:
        raise ValueError(f"expected `data` in {path} as uint8 (n, 3 * size * size), got {data.dtype} {data.shape}")
    return data.reshape(-1, 3, side, side)
