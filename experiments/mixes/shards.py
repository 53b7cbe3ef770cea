"""The files of a fixed data set of mixes: `about.json` and `mixes-00000.safetensors`, ..., opened by memory map."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float16, Float32, Int32, Int64, UInt8
from safetensors.numpy import save_file

FORMAT = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixes:
    """Some mixes, and all that is kept of them.

    Attributes:
        images: Pixels of the mixes, 0 to 255.
        source_indices: The sources, as numbers of the training samples in their order, before any augmentation.
        source_classes: Their classes.
        mix_weights: Their weights, summing to 1.
        masks: Mean share of each source in each cell of a coarse grid.
        solved: Whether the solver met the criterion in its last pass.
        holds: Whether the teacher's top classes of a view that was not solved on are those of the sources.
        num_steps: Updates of the masks.
    """

    images: UInt8[np.ndarray, "m 3 h w"]
    source_indices: Int64[np.ndarray, "m k"]
    source_classes: Int64[np.ndarray, "m k"]
    mix_weights: Float32[np.ndarray, "m k"]
    masks: Float16[np.ndarray, "m k s t"]
    solved: Bool[np.ndarray, " m"]
    holds: Bool[np.ndarray, " m"]
    num_steps: Int32[np.ndarray, " m"]

    def __len__(self) -> int:
        """Count the mixes."""
        return len(self.images)


def shard_path(folder: Path, number: int) -> Path:
    """Name a shard."""
    return folder / f"mixes-{number:05d}.safetensors"


def write_shard(path: Path, mixes: Mixes) -> None:
    """Write a shard, whole or not at all."""
    part = path.with_suffix(".part")
    part.touch()
    mode = part.stat().st_mode  # as the umask has it: safetensors makes files that nobody else can read
    save_file({field.name: np.ascontiguousarray(getattr(mixes, field.name)) for field in fields(Mixes)}, part)
    part.chmod(mode)
    part.replace(path)


def open_shard(path: Path) -> Mixes:
    """Open a shard by memory map.

    Raises:
        ValueError: If it is not a whole shard.
    """
    try:
        # One mapping a shard that keeps no file open: np.memmap would keep one a field, thousands in all
        content = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8).numpy()
        content.flags.writeable = False
        start = 8 + int.from_bytes(content[:8].tobytes(), "little")
        header = json.loads(content[8:start].tobytes())
        return Mixes(**{field.name: _view(content[start:], header[field.name]) for field in fields(Mixes)})
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"expected a shard of mixes in {path}, which cannot be read ({error}): delete it and run "
            "supermix-generate again, which makes what is missing"
        ) from error


def is_whole(path: Path) -> bool:
    """Return whether a shard is there and can be opened."""
    try:
        open_shard(path)
    except ValueError:
        return False
    return True


def _view(content: UInt8[np.ndarray, " bytes"], entry: Mapping[str, Any]) -> np.ndarray:
    kinds = {"U8": "u1", "I64": "<i8", "I32": "<i4", "F16": "<f2", "F32": "<f4", "BOOL": "?"}
    begin, end = entry["data_offsets"]
    return content[begin:end].view(kinds[entry["dtype"]]).reshape(entry["shape"])


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
    about = json.loads(path.read_text())
    if about.get("format") != FORMAT:
        raise ValueError(f"expected mixes in format {FORMAT}, got {about.get('format')} in {path}: generate them anew")
    return about


class FixedMixes:
    """A whole data set of mixes.

    Args:
        folder: What `supermix-generate` wrote.

    Attributes:
        about: Size, shape and origin of the mixes.
        shards: The files, opened.

    Raises:
        ValueError: If shards are missing or damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.about = read_about(self.folder)
        count = -(-self.about["size"] // self.about["shard_size"])
        missing = [number for number in range(count) if not shard_path(self.folder, number).is_file()]
        if missing:
            raise ValueError(
                f"expected {count} shards in {self.folder}, got {count - len(missing)}: the generation was stopped; "
                "run the same supermix-generate again, it makes the rest"
            )
        self.shards = [open_shard(shard_path(self.folder, number)) for number in range(count)]

    def __len__(self) -> int:
        """Count the mixes."""
        return self.about["size"]

    def take(self, indices: Int64[np.ndarray, " m"]) -> Mixes:
        """Return the mixes of these numbers, in [0, len), in this order."""
        shards, rows = np.divmod(indices, self.about["shard_size"])

        def gather(name: str) -> np.ndarray:
            example = getattr(self.shards[0], name)
            values = np.empty((len(indices), *example.shape[1:]), example.dtype)
            for shard in np.unique(shards):
                here = shards == shard
                values[here] = getattr(self.shards[shard], name)[rows[here]]
            return values

        return Mixes(**{field.name: gather(field.name) for field in fields(Mixes)})
