"""The files of the down-sampled ImageNet release: `train_data_batch_1` to `_10`, pickled or as `.npz`."""

import codecs
import importlib
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

_NAME = re.compile(r"train_data_batch_(\d+)(\.npz)?")

_UNREADABLE = (  # what damaged and foreign files give
    *(OSError, EOFError, KeyError, IndexError, TypeError, ValueError, AttributeError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error),
)


def find_batches(folder: Path) -> list[Path]:
    """Returns the training batches of a folder in the order of their numbers, the `.npz` one where there are both."""
    found = {}
    for path in sorted(folder.glob("train_data_batch_*")):  # x.npz comes after x
        match = _NAME.fullmatch(path.name)
        if match is not None:
            found[int(match[1])] = path
    return [found[number] for number in sorted(found)]


def is_batch(path: Path) -> bool:
    """Returns whether a file has the name of a training batch."""
    return _NAME.fullmatch(path.name) is not None


def read_batch(path: Path) -> UInt8[np.ndarray, "n 3 s s"]:
    """Reads the images of one batch; nothing in a pickled one is run.

    Raises:
        ValueError: If the file is not of this kind; the message says what to do.
    """
    try:
        if path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                data = arrays["data"]
        else:
            with path.open("rb") as file:
                data = _ArraysOnly(file, encoding="latin1").load()["data"]
    except _UNREADABLE as error:
        raise ValueError(
            f"expected a batch of the down-sampled ImageNet with an array `data`, got {path}, which cannot be read "
            f"({error}): download it again, in the .npz format if there is a choice"
        ) from error
    side = round((data.shape[-1] / 3) ** 0.5) if isinstance(data, np.ndarray) and data.ndim == 2 else 0
    if not side or data.dtype != np.uint8 or data.shape[1] != 3 * side * side:
        got = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise ValueError(f"expected `data` in {path} as uint8 (n, 3 * size * size), got {got}")
    return data.reshape(-1, 3, side, side)


class _ArraysOnly(pickle.Unpickler):
    """Reads dictionaries, lists, numbers, strings and arrays; refuses to import anything else."""

    _allowed: ClassVar[set[tuple[str, str]]] = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
    }

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("_codecs", "encode"):  # how Python 2's bytes are written by Python 3
            return codecs.encode
        module_name = module_name.replace("numpy.core", "numpy._core")  # before and after numpy 2
        if (module_name, global_name) not in self._allowed:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which arrays do not need")
        return getattr(importlib.import_module(module_name), global_name)
