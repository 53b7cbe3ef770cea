"""The files of a fixed data set of mixes: `about.json` and `mixes-00000.safetensors`, ..., opened by memory map.

Images of more than 64x64 pixels are kept as lossless WebP. Of ImageNet at 224x224 (k = 3, 16x16 masks) it takes 52 % of
the bytes and 1.9 ms to encode, 1.2 ms to decode; PNG 68 % (4.5, 1.8), zlib 90 % (3.2, 0.7). Smaller images are kept as
they are: WebP takes 69 % of CIFAR-100, which is small anyway, and decoding 9 to 14 ms a batch of 128.
"""

import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from platform import node
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Float32, Int32, Int64, UInt8
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from supermix_pl.experiments.shared.files import whole_file

FORMAT = 3
_LARGEST_RAW = 64 * 64  # pixels
_ENCODED_SHARE = 0.52  # measured, see above
_ENDS = "image_ends"  # where each encoded image ends in the bytes of all


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixes:
    """Some mixes, and all that is kept of them."""

    images: UInt8[np.ndarray, "m 3 h w"]  # 0 to 255
    source_indices: Int64[np.ndarray, "m k"]  # numbers of the training samples in their order, before any augmentation
    source_classes: Int64[np.ndarray, "m k"]
    mix_weights: Float32[np.ndarray, "m k"]  # sum to 1
    masks: Float16[np.ndarray, "m k s t"]  # mean share of each source in each cell of a coarse grid
    solved: Bool[np.ndarray, " m"]  # whether the solver met the criterion in its last pass
    holds: Bool[np.ndarray, " m"]  # whether the teacher sees the classes of the sources in a view not solved on
    num_steps: Int32[np.ndarray, " m"]  # updates of the masks

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | Int64[np.ndarray, " r"]) -> "Mixes":
        return Mixes(**{field.name: getattr(self, field.name)[rows] for field in fields(Mixes)})


def shard_path(folder: Path, number: int) -> Path:
    """Name a shard."""
    return folder / f"mixes-{number:05d}.safetensors"


def shard_number(path: str | Path) -> int:
    """Return the number that `shard_path` has put into a name."""
    return int(Path(path).stem.removeprefix("mixes-"))


def bytes_of_mix(image_size: Sequence[int], k: int, grid: tuple[int, int]) -> int:
    """Estimate the bytes on the disk of a mix of this height and width, of k masks on a grid and of its facts."""
    pixels = image_size[0] * image_size[1]
    image = round(3 * pixels * (_ENCODED_SHARE if pixels > _LARGEST_RAW else 1))
    return image + k * (2 * grid[0] * grid[1] + 20) + 6


def write_shard(path: Path, mixes: Mixes) -> None:
    """Write a shard, whole or not at all."""
    content = {field.name: np.ascontiguousarray(getattr(mixes, field.name)) for field in fields(Mixes)}
    if mixes.images[0, 0].size > _LARGEST_RAW:
        with ThreadPoolExecutor() as pool:
            encoded = list(pool.map(_encode, mixes.images))
        content["images"] = np.frombuffer(b"".join(encoded), np.uint8)
        content[_ENDS] = np.cumsum([len(image) for image in encoded])
    # Of this process: another one may write the same shard where locks do not reach from machine to machine
    with whole_file(path, path.with_suffix(f".{node()}-{os.getpid()}.part")) as file:
        file.write(save(content))


def open_shard(path: Path) -> Any:
    """Open a shard as safetensors' memory map, which keeps no file open: the fields of `Mixes`, and `_ENDS`.

    Raises:
        ValueError: If it is not a whole shard.
    """
    try:
        shard: Any = safe_open(path, "np")
        missing = {field.name for field in fields(Mixes)} - set(shard.keys())
    except (OSError, SafetensorError) as error:
        shard, missing = None, error
    if missing:
        raise ValueError(
            f"expected a shard of mixes in {path}, which cannot be read ({missing}): delete it and run "
            "supermix-generate again, which makes what is missing"
        )
    return shard


def _encode(image: UInt8[np.ndarray, "3 h w"]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(content, "WEBP", lossless=True, method=0, quality=0)
    return content.getvalue()


def _decode(content: UInt8[np.ndarray, " bytes"]) -> UInt8[np.ndarray, "3 h w"]:
    return np.asarray(Image.open(io.BytesIO(content.tobytes()))).transpose(2, 0, 1)


def is_whole(path: Path) -> bool:
    """Return whether a shard is there and can be opened."""
    try:
        open_shard(path)
    except ValueError:
        return False
    return True


def read_about(folder: Path) -> dict[str, Any]:
    """Read what a folder says of its mixes.

    Raises:
        ValueError: If it is not a folder of mixes, or of another format.
    """
    path = folder / "about.json"
    if not path.is_file():
        raise ValueError(
            f"expected a folder of mixes, got {folder} without about.json: make one with supermix-generate"
        )
    about = parse_about(path)
    if about.get("format") != FORMAT:
        raise ValueError(f"expected mixes in format {FORMAT}, got {about.get('format')} in {path}: generate them anew")
    return about


def parse_about(path: Path) -> dict[str, Any]:
    """Read an about.json of any format; a `ValueError` says that it is damaged."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"expected JSON in {path}, got a damaged file ({error}): delete it and run the same supermix-generate again"
        ) from error


class FixedMixes:
    """A whole data set of mixes.

    Args:
        folder: What `supermix-generate` wrote.

    Attributes:
        about: Size, shape and origin of the mixes.
        facts: What is kept of all of them, apart from images and masks, by its names in `Mixes`.

    Raises:
        ValueError: If shards are missing, damaged or of another set.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.about = read_about(self.folder)
        count = -(-self.about["size"] // self.about["batch_size"])
        missing = [number for number in range(count) if not shard_path(self.folder, number).is_file()]
        if missing:
            raise ValueError(
                f"expected {count} shards in {self.folder}, got {count - len(missing)}: the generation was stopped; "
                "run the same supermix-generate again, it makes the rest"
            )
        self._shards = [open_shard(shard_path(self.folder, number)) for number in range(count)]
        small = [field.name for field in fields(Mixes) if field.name not in ("images", "masks")]
        for number, shard in enumerate(self._shards):
            first, rows = number * self.about["batch_size"], shard.get_slice("holds").get_shape()[0]
            expected = min(self.about["batch_size"], self.about["size"] - first)
            if rows != expected:
                raise ValueError(
                    f"expected {expected} mixes in {shard_path(self.folder, number)}, got {rows}, of another set: "
                    "delete it and run supermix-generate again, which makes what is missing"
                )
        self.facts = {name: np.concatenate([shard.get_tensor(name) for shard in self._shards]) for name in small}
        self._ends = [shard.get_tensor(_ENDS).tolist() for shard in self._shards if _ENDS in shard.keys()]  # noqa: SIM118

    def __reduce__(self) -> Any:
        return FixedMixes, (self.folder,)

    def __len__(self) -> int:
        return self.about["size"]

    def take(self, indices: Int64[np.ndarray, " m"]) -> Mixes:
        """Return the mixes of these numbers, in [0, len), in this order.

        Raises:
            IndexError: If one of them is of no mix.
        """
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"expected numbers in [0, {len(self)}), got {indices.min()} to {indices.max()}")
        places = [divmod(index, self.about["batch_size"]) for index in indices.tolist()]
        images = np.stack([self._image(shard, row) for shard, row in places])
        masks = np.stack([self._shards[shard].get_slice("masks")[row] for shard, row in places])
        return Mixes(images=images, masks=masks, **{name: values[indices] for name, values in self.facts.items()})

    def _image(self, shard: int, row: int) -> UInt8[np.ndarray, "3 h w"]:
        images = self._shards[shard].get_slice("images")
        if not self._ends:
            return images[row]
        ends = self._ends[shard]
        return _decode(images[ends[row - 1] if row else 0 : ends[row]])
