"""Files that are there whole or not at all, whatever kills their writer, and of which several processes make one."""

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from filelock import FileLock

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # numbers of the errors of a disk without room


@contextmanager
def whole_file(path: Path, part: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file of another name in the same folder, which takes the place of `path` when it is on the disk.

    A file that is there stays as it is until then, and after an exception. Where several processes may write the same
    file at once, each gives a `part` of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part or path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name
    finally:
        os.close(folder)


def write_whole(path: Path, text: str) -> None:
    """Write a text file by `whole_file`."""
    with whole_file(path) as file:
        file.write(text.encode())


def save_whole(path: Path, content: Any) -> None:
    """Write what `torch.load` reads by `whole_file`."""
    buffer = io.BytesIO()  # where the disk is full, torch.save itself would end in an error of another kind
    torch.save(content, buffer)
    with whole_file(path) as file:
        file.write(buffer.getbuffer())


@contextmanager
def to_be_made(path: Path) -> Iterator[bool]:
    """Yields whether a file is to be made; of several processes one is told so, and the others wait for its work.

    Where it is there nothing is locked, as its folder may be read-only.
    """
    if path.exists():
        yield False
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", mode=0o666):  # other users may wait for it too
        yield not path.exists()
