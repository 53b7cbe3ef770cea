"""Encoded images in the Hugging Face layout, from local Parquet shards or the Hub, opened by `datasets`."""

import glob
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from PIL import Image

from supermix_pl.experiments.data.rgb import open_rgb

TEST_PARTS = ("test", "validation", "val")
_LABEL_NAMES = ("label", "labels", "fine_label", "fine_labels", "target", "targets", "class", "coarse_label")

_SHARD = "-*.parquet"

Names = tuple[str, ...] | None


@dataclass(kw_only=True, eq=False)
class Choice:
    """Which parts and columns of a data set are read."""

    train_part: str = "train"  # name of the training split, the first word of the names of its shards
    # the same for testing, the first of `TEST_PARTS` that there is when `None`; the same word for both trains and tests
    # on the same images
    test_part: str | None = None
    image_column: str | None = None  # a struct with `bytes`, or binary; found by its type when `None`
    label_column: str | None = None  # column of integer labels; found by its name when `None`

    def find(self, look: Callable[[str], Any], place: object, there: Iterable[str], ending: str = "") -> dict[str, Any]:
        """Return what `look` finds of "train" and "test" in a place, where there are parts with this ending.

        Raises:
            ValueError: If there is neither, or not the test part that was asked for.
        """
        tests = TEST_PARTS if self.test_part is None else (self.test_part,)
        found = {"train": look(self.train_part), "test": next(filter(None, map(look, tests)), None)}
        if not any(found.values()) or (self.test_part and not found["test"]):
            missing = self.test_part or f"{self.train_part}{ending} or {TEST_PARTS[0]}"
            raise ValueError(f"expected {missing}{ending} in {place}, got {sorted(there)[:8] or 'nothing'}")
        return {role: part for role, part in found.items() if part}


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedRows:
    """Encoded images of a memory-mapped data set, as `EncodedImages`; pickles small."""

    rows: Any  # a `datasets.Dataset`
    column: str  # its column of images
    labels: Int64[np.ndarray, " n"]  # class of every image, -1 without a column of labels
    class_names: Names  # names of the classes, or `None` where the metadata has none
    shards: Sequence[tuple[object, int]]  # what the rows come from, for messages: name and number of rows

    def __getitem__(self, index: int) -> Image.Image:
        """Decodes an image into RGB; a `ValueError` says which one cannot be decoded."""
        return next(self.decode(range(index, index + 1)))

    def decode(self, indices: range) -> Iterator[Image.Image]:
        """Yields neighbouring images in RGB; single rows would take arrow as long as Pillow takes to decode."""
        for index, row in zip(
            indices, self.rows.data.column(self.column)[indices.start : indices.stop].to_pylist(), strict=True
        ):
            place, found = _place(self.shards, index), row or {}
            if found.get("bytes") is not None:
                yield open_rgb(found["bytes"], place)
            elif found.get("path") and Path(found["path"]).is_file():
                yield open_rgb(Path(found["path"]), found["path"])
            else:
                raise ValueError(f"expected the image's bytes, got none in {place}: rows of only paths will not do")

    @property
    def path(self) -> Path:
        """The file that `datasets` keeps the rows in; another one once the shards change."""
        return Path(self.rows.cache_files[0]["filename"])


def _place(shards: Sequence[tuple[object, int]], index: int) -> str:
    for shard, count in shards:
        if index < count:
            return f"{shard}, row {index}"
        index -= count
    raise IndexError(f"expected a row of {shards}, got {index} too many")


def open_folder(folder: Path, choice: Choice, cache_dir: Path) -> dict[str, EncodedRows]:
    """Opens the shards `<part>-*.parquet` of a folder; rows of "train" and "test", without what there is not.

    `cache_dir` is the folder of the copy that `datasets` makes once, as large as the shards.

    Raises:
        ValueError: If there are no shards, a file is not Parquet or damaged, a column is missing or not of the right
            type, the class names of the shards differ, or a label has no name or is negative.
    """
    if not folder.is_dir():
        raise ValueError(f"expected a folder of Parquet shards, got no such folder as {folder}")
    there = (path.name for path in folder.iterdir())

    def shards(part: str) -> list[Path]:
        return sorted(filter(Path.is_file, folder.glob(f"{part}{_SHARD}")))

    return _open_files(choice.find(shards, folder, there, _SHARD), choice, cache_dir)


def open_files(paths: Sequence[Path], cache_dir: Path) -> EncodedRows:
    """Opens Parquet files of which only the images are read; the labels are -1. See `open_folder`."""
    return _open_files({"train": paths}, None, cache_dir)["train"]


def open_hub(name: str, choice: Choice, cache_dir: Path) -> dict[str, EncodedRows]:
    """Downloads and opens a data set of the Hugging Face Hub, or whatever else `datasets` opens; see `open_folder`."""
    splits = _datasets().load_dataset(name, cache_dir=str(cache_dir))
    parts = choice.find(splits.get, name, splits)
    schemas = {f"{part.split} of {name}": part.features.arrow_schema for part in parts.values()}
    image, label, names = _columns(schemas, choice)
    parts = {role: part.cast_column(image, _datasets().Image(decode=False)) for role, part in parts.items()}
    shards = {role: [(f"{part.split} of {name}", len(part))] for role, part in parts.items()}
    return {role: _encoded(part, image, label, names, shards[role]) for role, part in parts.items()}


def _open_files(files: Mapping[str, Sequence[Path]], choice: Choice | None, cache_dir: Path) -> dict[str, EncodedRows]:
    datasets = _datasets()
    opened = {path: _open(path) for paths in files.values() for path in paths}
    image, label, names = _columns({path: file.schema_arrow for path, file in opened.items()}, choice)
    features = {image: datasets.Image(decode=False)} | ({} if label is None else {label: datasets.Value("int64")})
    try:
        parts = datasets.load_dataset(
            "parquet",
            data_files={role: [glob.escape(str(path.absolute())) for path in paths] for role, paths in files.items()},
            columns=list(features),
            features=datasets.Features(features),
            cache_dir=str(cache_dir),
        )
    except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
        raise ValueError(
            f"expected whole Parquet files with rows in {next(iter(opened)).parent}, and room for a copy in "
            f"{cache_dir}, got {error.__cause__ or error}: fetch them again, make room, or delete a damaged copy"
        ) from error
    shards = {role: [(path, opened[path].metadata.num_rows) for path in paths] for role, paths in files.items()}
    return {role: _encoded(part, image, label, names, shards[role]) for role, part in parts.items()}


def _encoded(
    rows: Any, image: str, label: str | None, names: Names, shards: Sequence[tuple[object, int]]
) -> EncodedRows:
    labels = np.full(len(rows), -1)
    if label is not None:
        labels = rows.data.column(label).fill_null(-1).to_numpy().astype(np.int64)
        if (labels < 0).any():
            raise ValueError(
                f"expected labels from 0 on in column {label!r}, got a missing or negative one in "
                f"{_place(shards, int((labels < 0).argmax()))}: an unlabelled part? Move its shards away, or name "
                "another test_part"
            )
    if names is not None and (labels >= len(names)).any():
        raise ValueError(
            f"expected labels below {len(names)}, the number of class names, got {labels.max()} in {label!r} of "
            f"{_place(shards, int(labels.argmax()))}: the shards contradict their metadata"
        )
    return EncodedRows(rows=rows, column=image, labels=labels, class_names=names, shards=shards)


def class_names(parts: Iterable[EncodedRows]) -> list[str]:
    """Return the class names of the metadata, or the numbers from 0 to the largest label where it has none."""
    parts = list(parts)
    largest = max(int(part.labels.max()) for part in parts)
    return list(parts[0].class_names or map(str, range(largest + 1)))


def _datasets() -> Any:
    import datasets
    import datasets.exceptions

    datasets.disable_progress_bars()
    return datasets


def _open(path: Path) -> Any:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"expected a Parquet file, got {path}, which cannot be read as one: {error}") from error


def _columns(schemas: Mapping[Any, Any], choice: Choice | None) -> tuple[str, str | None, Names]:
    """Return the columns of images and labels and the class names, after a look at every shard."""
    from pyarrow import types

    first = next(iter(schemas.values()))
    images = [field.name for field in first if _holds_images(field.type)]
    images = [name for name in images if name in ("image", "img")] or images
    image = (choice and choice.image_column) or (images[0] if len(images) == 1 else None)
    label = choice and (choice.label_column or next((name for name in _LABEL_NAMES if name in first.names), None))
    for place, schema in schemas.items():
        kinds = {field.name: field.type for field in schema}
        shown = "columns " + ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        if image not in kinds or not _holds_images(kinds[image]):
            raise ValueError(
                f"expected images (a struct with bytes, or binary) in {image or 'one column'} of {place}, got {shown}: "
                "give image_column"
            )
        if choice is not None and (label not in kinds or not types.is_integer(kinds[label])):
            raise ValueError(
                f"expected integer labels in {label or ' or '.join(_LABEL_NAMES)} of {place}, got {shown}: give "
                "label_column"
            )
    names = {} if label is None else {place: _class_names(schema, label) for place, schema in schemas.items()}
    _check_same_names(names)
    assert image is not None
    return image, label, next(filter(None, names.values()), None)


def _holds_images(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_images(kind.field("bytes").type)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _class_names(schema: Any, label: str) -> Names:
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except ValueError:
        return None
    for name in ("info", "features", label, "names"):
        found = found.get(name) if isinstance(found, dict) else None
    return tuple(map(str, found)) if isinstance(found, list) else None


def _check_same_names(found: Mapping[Any, Names]) -> None:
    """Refuses shards whose labels mean different classes; those whose metadata name none fit all."""
    (first, expected), *others = [(place, names) for place, names in found.items() if names is not None] or [("", ())]
    for place, names in others:
        for number, (theirs, ours) in enumerate(itertools.zip_longest(expected, names)):
            if theirs != ours:
                raise ValueError(
                    f"expected the same classes in the same order in all shards, got {theirs!r} as class {number} in "
                    f"{first} and {ours!r} in {place}: their labels mean different classes; write them anew with one "
                    "list of names"
                )
