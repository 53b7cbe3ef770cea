"""A folder of Hugging Face style Parquet shards as a data module."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_info

from supermix_pl.experiments.data.array_cache import CachedImages, default_cache_dir, open_or_build
from supermix_pl.experiments.data.datamodule import ImageDataModule, LabelledImages, Opened
from supermix_pl.experiments.data.parquet_decode import decode_shards
from supermix_pl.experiments.data.parquet_shards import Shards, find_shards

_FORMAT = 1
_TEST_PARTS = ("test", "validation", "val")


@dataclass(kw_only=True, eq=False, repr=False)
class Parquet(ImageDataModule):
    """Images from `train-*.parquet` and `test-*.parquet` (or `validation-*`, `val-*`).

    Every image is decoded once, without loss, into a uint8 array in `cache_dir`; later runs open it by memory map.
    Class names come from the schema's metadata. By default images are normalised with the statistics of the training
    images. Other arguments are those of `ImageDataModule`.

    Args:
        folder: Folder of the shards.
        image_column: Column of images (a struct with `bytes`, or binary); found by its type when `None`.
        label_column: Column of integer labels; found by its name when `None`.
        size: Resizes and centre-crops every image to this size or (height, width); needed where they differ.
        cache_dir: Folder of decoded images; `None` for `$XDG_CACHE_HOME/supermix_pl` or `~/.cache/supermix_pl`.
    """

    folder: str | Path
    image_column: str | None = None
    label_column: str | None = None
    size: int | Sequence[int] | None = None
    cache_dir: str | Path | None = None

    def prepare_data(self) -> None:
        """Decodes what the cache lacks, in one process."""
        self._decoded()

    def open_data(self) -> Opened:
        """Opens the cache of both parts."""
        decoded = self._decoded()
        train, test = (decoded.get(part) for part in ("train", "test"))
        first = train or test
        assert first is not None
        shards, cached = first
        largest = max(int(part.labels.max()) for _, part in decoded.values())
        class_names = list(shards.class_names or map(str, range(largest + 1)))
        if largest >= len(class_names):
            raise ValueError(
                f"expected labels below {len(class_names)}, the number of class names in {shards.paths[0]}, got "
                f"{largest} in {shards.label_column!r}: the shards contradict their metadata"
            )
        return self._opened_arrays(
            train=_arrays(train), test=_arrays(test), class_names=class_names, mean=cached.mean, std=cached.std
        )

    def _decoded(self) -> dict[str, tuple[Shards, CachedImages]]:
        folder = Path(self.folder).expanduser()
        size = _height_width(self.size)
        found = {"train": self._shards(folder, "train")}
        found["test"] = next((shards for part in _TEST_PARTS if (shards := self._shards(folder, part))), None)
        if not any(found.values()):
            names = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else "no such folder"
            raise ValueError(f"expected train-*.parquet or test-*.parquet in {folder}, got {names or 'nothing'}")
        return {part: (shards, self._open_part(shards, size)) for part, shards in found.items() if shards is not None}

    def _shards(self, folder: Path, part: str) -> Shards | None:
        return find_shards(folder, part, image_column=self.image_column, label_column=self.label_column)

    def _open_part(self, shards: Shards, size: tuple[int, int] | None) -> CachedImages:
        def build(images_path: Path):
            rank_zero_info(f"decoding {shards.num_rows} images of {shards.paths[0].parent} once, into {cache_dir}")
            return decode_shards(shards, images_path, size=size)

        cache_dir = default_cache_dir() if self.cache_dir is None else Path(self.cache_dir).expanduser()
        return open_or_build(cache_dir / _key(shards, size), build)


def _key(shards: Shards, size: tuple[int, int] | None) -> str:
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in shards.paths]
    identity = json.dumps([_FORMAT, files, shards.image_column, shards.label_column, size])
    return f"{shards.paths[0].parent.name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _arrays(part: tuple[Shards, CachedImages] | None) -> LabelledImages | None:
    return None if part is None else (part[1].images, part[1].labels)


def _height_width(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f"expected size of at least 1x1, got {height}x{width}")
    return int(height), int(width)
