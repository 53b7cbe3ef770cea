"""Of several processes one makes a file."""

from pathlib import Path
from threading import Thread

import pytest

from supermix_pl.experiments.shared.files import to_be_made


def test_one_makes_it_and_others_wait(tmp_path: Path) -> None:
    path, made = tmp_path / "deep" / "x", []

    def make() -> None:
        with to_be_made(path) as missing:
            if missing:
                made.append(1)
                path.touch()

    threads = [Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert made == [1]


def test_nothing_is_locked_where_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supermix_pl.experiments.shared.files.FileLock", None)
    with to_be_made(tmp_path) as missing:
        assert not missing
