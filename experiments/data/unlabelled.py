"""Images without labels, such as the external source of the paper's ImgNet32 rows, decoded into one array."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from supermix_pl.arguments import check_size
from supermix_pl.experiments.data.decoded import Pixels, cache_folder, decode_all, open_or_decode, to_pixels
from supermix_pl.experiments.data.huggingface import open_files
from supermix_pl.experiments.data.rgb import EncodedFiles, images_below

_FORMAT = "unlabelled 2"
_BATCH = re.compile(r"train_data_batch_(\d+)(\.npz)?")


def unlabelled_images(
    folder: str | Path, *, size: int | Sequence[int], cache_dir: str | Path | None = None
) -> UInt8[np.ndarray, "n 3 h w"]:
    """Return all images of a folder, memory-mapped and read-only. The folder is one of

    - Parquet shards `*.parquet`, of which only the column of images is read;
    - the down-sampled ImageNet release, `train_data_batch_1.npz` to `_10.npz`;
    - image files at any depth, also behind links to folders.

    They are decoded once into a uint8 array in `cache_dir`, resized and centre-cropped to `size` where they differ;
    later runs open it by memory map. A `ValueError` says that there are no images, or which cannot be decoded.
    """
    folder, size = Path(folder).expanduser(), check_size("size", size)
    cache_dir = cache_folder(cache_dir)
    files = _image_files(folder)

    def decode() -> tuple[int, Iterable[Pixels]]:
        if _BATCH.fullmatch(files[0].name):
            count = sum(len(_read_batch(path)) for path in files)
            return count, itertools.chain.from_iterable(_resized(_read_batch(path), size) for path in files)
        images = open_files(files, cache_dir) if files[0].suffix == ".parquet" else EncodedFiles(files)
        return len(images.labels), decode_all(images.decode, len(images.labels), size)

    return open_or_decode(cache_dir / f"{_key(folder, files, size)}.npy", decode, str(folder))


def _image_files(folder: Path) -> list[Path]:
    """Return what the images are read from: shards, else batches of the release, else image files."""
    files = sorted(filter(Path.is_file, folder.glob("*.parquet"))) or _batches(folder)
    files = files or (sorted(images_below(folder)) if folder.is_dir() else [])
    if not files:
        names = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else "no such folder"
        raise ValueError(f"expected *.parquet, train_data_batch_* or image files in {folder}, got {names or 'nothing'}")
    return files


def _key(folder: Path, files: Sequence[Path], size: tuple[int, int]) -> str:
    found = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return f"{folder.name}-{hashlib.sha256(json.dumps([_FORMAT, found, size]).encode()).hexdigest()[:16]}"


def _resized(images: UInt8[np.ndarray, "n 3 s s"], size: tuple[int, int]) -> Iterator[Pixels]:
    if images.shape[2:] == size:
        yield from images
        return
    for pixels in images:
        yield to_pixels(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), size)


def _batches(folder: Path) -> list[Path]:
    """Return the training batches of a folder in the order of their numbers, the `.npz` one where there are both."""
    paths = sorted(folder.glob("train_data_batch_*"))  # x.npz comes after x
    found = {int(match[1]): path for path in paths if (match := _BATCH.fullmatch(path.name))}
    return [found[number] for number in sorted(found)]


def _read_batch(path: Path) -> UInt8[np.ndarray, "n 3 s s"]:
    """Reads the images of one batch; a pickled one, which could run anything, is refused."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            data = arrays["data"]
    except Exception as error:  # of many kinds, as the garbage is
        raise ValueError(
            f"expected a batch of the down-sampled ImageNet as .npz with an array `data`, got {path}, which cannot be "
            f"read ({error}): download the release in the .npz format, not the pickled one"
        ) from error
    side = round((data.shape[-1] / 3) ** 0.5) if data.ndim == 2 else 0
    if not side or data.dtype != np.uint8 or data.shape[1] != 3 * side * side:
        raise ValueError(f"expected `data` in {path} as uint8 (n, 3 * size * size), got {data.dtype} {data.shape}")
    return data.reshape(-1, 3, side, side)
