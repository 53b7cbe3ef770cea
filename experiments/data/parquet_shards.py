"""Hugging Face style Parquet shards: which files, which columns, which class names."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEST_PARTS = ("test", "validation", "val")
_LABEL_NAMES = ("label", "labels", "fine_label", "fine_labels", "target", "targets", "class", "coarse_label")


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The shards of one part of a data set, and the columns to read in them.

    Args:
        paths: Files, in the order of their names.
        image_column: Column with the encoded images.
        label_column: Column with the classes; `None` for images without labels.
        num_rows: Number of images in all of them.
        class_names: Class names of the schema's metadata, or `None` where it has none.
    """

    paths: tuple[Path, ...]
    image_column: str
    label_column: str | None
    num_rows: int
    class_names: tuple[str, ...] | None


def find_parts(
    folder: Path,
    *,
    train_part: str = "train",
    test_part: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> dict[str, Shards]:
    """Finds the shards for training and for testing.

    Args:
        folder: Where the shards lie.
        train_part: First word of the names of the training shards.
        test_part: First word of the names of the test shards; the first of `TEST_PARTS` that there is when `None`.
        image_column: Column of images; found by its type when `None`.
        label_column: Column of labels; found by its name when `None`.

    Returns:
        Shards under "train" and "test", without what there is not.

    Raises:
        ValueError: If there is neither, or not the part that was asked for, or their class names differ; also as in
            `find_shards`.
    """
    wanted = {"train": (train_part,), "test": TEST_PARTS if test_part is None else (test_part,)}
    columns = {"image_column": image_column, "label_column": label_column}
    found = {}
    for role, parts in wanted.items():
        shards = next((shards for part in parts if (shards := find_shards(folder, part, **columns))), None)
        if shards is not None:
            found[role] = shards
    if len(found) == 2:
        _check_same_names({found[role].paths[0]: found[role].class_names for role in found})
    if not found or (test_part is not None and "test" not in found):
        names = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else "no such folder"
        missing = f"{train_part}-*.parquet or {TEST_PARTS[0]}" if test_part is None else test_part
        raise ValueError(f"expected {missing}-*.parquet in {folder}, got {names or 'nothing'}")
    return found


def find_shards(
    folder: Path,
    part: str,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Shards | None:
    """Finds the shards `<part>-*.parquet` of a folder and the columns in them.

    Args:
        folder: Where the shards lie.
        part: First word of their names.
        image_column: Column of images; found by its type when `None`.
        label_column: Column of labels; found by its name when `None`.

    Returns:
        The shards, or `None` when there is none.

    Raises:
        ValueError: If a file is not Parquet, a column is missing or not of the right type, or the class names of the
            shards differ.
        ImportError: If pyarrow is not installed.
    """
    paths = tuple(sorted(folder.glob(f"{part}-*.parquet")))
    if not paths:
        return None
    schema = open_shard(paths[0]).schema_arrow
    return _described(paths, image_column, label_column or _find_label_column(schema, paths[0]))


def unlabelled_shards(paths: Sequence[Path]) -> Shards:
    """Returns shards and their column of images; labels are not asked for.

    Raises:
        ValueError: If a file is not Parquet, or has no column of images.
        ImportError: If pyarrow is not installed.
    """
    return _described(tuple(paths), None, None)


def _described(paths: tuple[Path, ...], image_column: str | None, label_column: str | None) -> Shards:
    files = [open_shard(path) for path in paths]
    schema = files[0].schema_arrow
    image_column = image_column or _find_image_column(schema, paths[0])
    for path, file in zip(paths, files, strict=True):
        _check_columns(file.schema_arrow, path, image_column, label_column)
    return Shards(
        paths=paths,
        image_column=image_column,
        label_column=label_column,
        num_rows=sum(file.metadata.num_rows for file in files),
        class_names=None if label_column is None else _names_of_all(paths, files, label_column),
    )


def _names_of_all(paths: Sequence[Path], files: Sequence[Any], label_column: str) -> tuple[str, ...] | None:
    names = {path: _class_names(file.schema_arrow, label_column) for path, file in zip(paths, files, strict=True)}
    _check_same_names(names)
    return next((found for found in names.values() if found is not None), None)


def _check_same_names(found: dict[Path, tuple[str, ...] | None]) -> None:
    """Refuses shards whose labels mean different classes; those whose metadata name none fit all."""
    named = [(path, names) for path, names in found.items() if names is not None]
    for path, names in named[1:]:
        first, expected = named[0]
        if names == expected:
            continue
        number = next(i for i in range(len(names) + 1) if names[i : i + 1] != expected[i : i + 1])
        theirs, ours = (repr(each[number]) if number < len(each) else "none" for each in (expected, names))
        raise ValueError(
            f"expected the same classes in the same order in all shards, got {theirs} as class {number} in {first} and "
            f"{ours} in {path}: their labels mean different classes; write them anew with one list of names"
        )


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError('reading Parquet shards needs pyarrow: run pip install "supermix_pl[experiments]"') from error
    return pyarrow


def open_shard(path: Path) -> Any:
    """Returns the `pyarrow.parquet.ParquetFile` of a shard.

    Raises:
        ValueError: If the file is not Parquet.
        ImportError: If pyarrow is not installed.
    """
    pyarrow = _pyarrow()
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"expected a Parquet file, got {path}, which cannot be read as one: {error}") from error


def _find_image_column(schema: Any, path: Path) -> str:
    found = [field.name for field in schema if _holds_images(field.type)]
    preferred = [name for name in found if name in ("image", "img")] or found
    if len(preferred) != 1:
        raise ValueError(
            f"expected one column of images (a struct with bytes, or binary) in {path}, got {_columns(schema)}: "
            "give image_column"
        )
    return preferred[0]


def _find_label_column(schema: Any, path: Path) -> str:
    for name in _LABEL_NAMES:
        if name in schema.names:
            return name
    raise ValueError(
        f"expected a column of labels ({', '.join(_LABEL_NAMES)}) in {path}, got {_columns(schema)}: give label_column"
    )


def _check_columns(schema: Any, path: Path, image_column: str, label_column: str | None) -> None:
    for name in (image_column, label_column):
        if name is not None and name not in schema.names:
            raise ValueError(f"expected a column {name!r} in {path}, got {_columns(schema)}")
    if not _holds_images(schema.field(image_column).type):
        raise ValueError(
            f"expected images (a struct with bytes, or binary) in {image_column!r}, got {_columns(schema)}"
        )
    if label_column is not None and not _pyarrow().types.is_integer(schema.field(label_column).type):
        raise ValueError(f"expected integer labels in column {label_column!r} of {path}, got {_columns(schema)}")


def is_binary(kind: Any) -> bool:
    """Returns whether a pyarrow type holds plain bytes."""
    types = _pyarrow().types
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _holds_images(kind: Any) -> bool:
    if _pyarrow().types.is_struct(kind):
        return any(kind.field(i).name == "bytes" and is_binary(kind.field(i).type) for i in range(kind.num_fields))
    return is_binary(kind)


def _class_names(schema: Any, label_column: str) -> tuple[str, ...] | None:
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except ValueError:
        return None
    for name in ("info", "features", label_column, "names"):
        found = found.get(name) if isinstance(found, dict) else None
    return tuple(map(str, found)) if isinstance(found, list) else None


def class_names_for(shards: Shards, largest: int) -> list[str]:
    """Returns the class names of the metadata, or the numbers 0 to `largest` where it has none.

    Raises:
        ValueError: If the largest label has no name.
    """
    names = list(shards.class_names or map(str, range(largest + 1)))
    if largest >= len(names):
        raise ValueError(
            f"expected labels below {len(names)}, the number of class names in {shards.paths[0]}, got "
            f"{largest} in {shards.label_column!r}: the shards contradict their metadata"
        )
    return names


def shards_key(shards: Shards, *choices: Any) -> str:
    """Returns a name for a cache of these very files and columns, under these choices."""
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in shards.paths]
    identity = json.dumps([files, shards.image_column, shards.label_column, *choices])
    return f"{shards.paths[0].parent.name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _columns(schema: Any) -> str:
    return "columns " + ", ".join(f"{field.name} ({field.type})" for field in schema)
