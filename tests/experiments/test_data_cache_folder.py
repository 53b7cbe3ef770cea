"""Folders that are filled once: by one of several at a time, for all users, and without the remains of killed ones."""

import os
import threading
from pathlib import Path

from filelock import FileLock

from supermix_pl.experiments.data.cache_folder import describe, open_or_fill, read_description


def fill(folder: Path) -> None:
    (folder / "value").write_text("1")
    describe(folder, ["value"])


def read(folder: Path) -> str | None:
    return None if read_description(folder) is None else (folder / "value").read_text()


def test_others_wait_for_the_one_that_fills(tmp_path: Path) -> None:
    fills: list[int] = []
    began, release = threading.Event(), threading.Event()

    def fill_slowly(folder: Path) -> None:
        fills.append(1)
        began.set()
        assert release.wait(10)
        fill(folder)

    def open_it() -> None:
        assert open_or_fill(tmp_path / "x", fill=fill_slowly, read=read) == "1"

    threads = [threading.Thread(target=open_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert began.wait(10)
    release.set()
    for thread in threads:
        thread.join(10)
    assert fills == [1]
    assert {path.name for path in tmp_path.iterdir()} == {"x", "x.lock"}


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    for name in ("x", "other", "busy"):
        (tmp_path / f"{name}.partial").mkdir()
        (tmp_path / f"{name}.partial" / "half").touch()
    with FileLock(f"{tmp_path / 'busy'}.lock"):
        assert open_or_fill(tmp_path / "x", fill=fill, read=read) == "1"
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"x", "busy.partial"}
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"value", "about.json"}


def test_other_users_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        open_or_fill(tmp_path / "x", fill=fill, read=read)
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "x" / "value").stat().st_mode & 0o777 == 0o644
