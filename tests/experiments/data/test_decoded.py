"""Decoded images: written by one of several at a time, for all users, in spite of what killed ones left."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from supermix_pl.experiments.data.decoded import decode_all, open_or_decode

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 5), dtype=np.uint8)


def opened(folder: Path) -> np.ndarray:
    return open_or_decode(folder, lambda: (3, IMAGES), "toys")


def test_others_wait_for_the_one_that_fills(tmp_path: Path) -> None:
    fills: list[int] = []
    began, release = threading.Event(), threading.Event()

    def decode_slowly() -> tuple[int, np.ndarray]:
        fills.append(1)
        began.set()
        assert release.wait(10)
        return 3, IMAGES

    found: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: found.append(open_or_decode(tmp_path / "x.npy", decode_slowly, "toys")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert began.wait(10)
    release.set()
    for thread in threads:
        thread.join(10)
    assert (fills, len(found)) == ([1], 3)
    for each in found:
        np.testing.assert_array_equal(each, IMAGES)


def test_what_is_there_is_opened_without_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache may be read-only."""
    opened(tmp_path / "x.npy")
    monkeypatch.setattr("supermix_pl.experiments.shared.files.FileLock", None)
    np.testing.assert_array_equal(opened(tmp_path / "x.npy"), IMAGES)


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.npy.part").write_bytes(b"half")
    np.testing.assert_array_equal(opened(tmp_path / "x.npy"), IMAGES)
    assert not list(tmp_path.glob("*.part"))


def test_a_decoding_that_fails_leaves_nothing_to_open(tmp_path: Path) -> None:
    def break_off() -> Iterator[np.ndarray]:
        yield IMAGES[0]
        raise ValueError("broken image")

    with pytest.raises(ValueError, match="broken image"):
        open_or_decode(tmp_path / "x.npy", lambda: (3, break_off()), "toys")
    assert not (tmp_path / "x.npy").exists()
    with pytest.raises(ValueError, match="expected images in toys, got no rows"):
        open_or_decode(tmp_path / "x.npy", lambda: (0, ()), "toys")


def test_a_full_disk_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=r"expected room for 3 decoded images in .*, got: .*No space left"):
        opened(tmp_path / "x.npy")
    assert not list(tmp_path.glob("x.npy*[!k]"))


def test_threads_keep_the_order_over_several_chunks() -> None:
    def decode(indices: range) -> Iterator[Image.Image]:
        return (Image.new("RGB", (2, 1), (index // 256, index % 256, 7)) for index in indices)

    pixels = np.stack(list(decode_all(decode, 5000, None))).astype(int)
    assert pixels.shape == (5000, 3, 1, 2)
    np.testing.assert_array_equal(256 * pixels[:, 0, 0, 0] + pixels[:, 1, 0, 0], np.arange(5000))


def test_other_users_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        opened(tmp_path / "x.npy")
    finally:
        os.umask(before)
    assert (tmp_path / "x.npy").stat().st_mode & 0o777 == 0o644
