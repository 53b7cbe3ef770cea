"""The files of fixed mixes: what goes in comes out, in any order, and what is damaged is named."""

import json
import os
import pickle
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supermix_pl.experiments.mixes import FixedMixes, Mixes
from supermix_pl.experiments.mixes.description import keep_description
from supermix_pl.experiments.mixes.shards import FORMAT, bytes_of_mix, is_whole, open_shard, shard_path, write_shard
from tests.problems import repeatable

NAMES = [field.name for field in fields(Mixes)]


def mixes_of(count: int, *, start: int = 0, size: tuple[int, int] = (5, 4)) -> Mixes:
    """Mixes whose every value tells their number."""
    numbers = np.arange(start, start + count)
    column = numbers[:, None]
    return Mixes(
        images=(numbers[:, None, None, None] + np.arange(3)[:, None, None] + np.zeros(size)).astype(np.uint8),
        source_indices=column + np.array([0, 100]),
        source_classes=column % 7 + np.array([0, 1]),
        mix_weights=(np.array([[0.25, 0.75]]) + 0 * column).astype(np.float32),
        masks=(numbers[:, None, None, None] / 64 + np.zeros((1, 2, 3, 2))).astype(np.float16),
        solved=numbers % 3 == 0,
        holds=numbers % 5 == 0,
        num_steps=numbers.astype(np.int32),
    )


def assert_equal(found: Mixes, expected: Mixes) -> None:
    for name in NAMES:
        got, wanted = getattr(found, name), getattr(expected, name)
        assert got.dtype == wanted.dtype, name
        np.testing.assert_array_equal(got, wanted, err_msg=name)


def folder_of(folder: Path, image_size: tuple[int, int] = (5, 4), **about: Any) -> Path:
    folder.mkdir(exist_ok=True)
    about = {"format": FORMAT, "size": 25, "batch_size": 10, "image_size": image_size, **about}
    (folder / "about.json").write_text(json.dumps(about))
    for number, start in enumerate(range(0, 25, 10)):
        write_shard(shard_path(folder, number), mixes_of(min(10, 25 - start), start=start, size=image_size))
    return folder


def read(path: Path) -> Mixes:
    shard = open_shard(path)
    return Mixes(**{name: shard.get_tensor(name) for name in NAMES})


def test_a_shard_comes_back_as_it_was(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.safetensors", mixes_of(7))
    assert_equal(read(tmp_path / "s.safetensors"), mixes_of(7))
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]
    (tmp_path / "other").touch()
    assert (tmp_path / "s.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to count open files")
def test_open_shards_are_mapped_and_keep_no_file_open(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.safetensors", mixes_of(7))
    before = len(os.listdir("/proc/self/fd"))
    found = [open_shard(tmp_path / "s.safetensors") for _ in range(3)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert Path("/proc/self/maps").read_text().count(str(tmp_path / "s.safetensors")) == len(found)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError("disk full")

    write_shard(tmp_path / "s.safetensors", mixes_of(7))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_shard(tmp_path / "s.safetensors", mixes_of(9))
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]
    assert_equal(read(tmp_path / "s.safetensors"), mixes_of(7))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: content[:5], id="five-bytes"),
        pytest.param(lambda content: content[:200], id="half-a-header"),
        pytest.param(lambda content: content[:-1], id="a-byte-short"),
        pytest.param(lambda content: b"\xff" * len(content), id="noise"),
        pytest.param(lambda content: (2).to_bytes(8, "little") + b"[]" + content, id="no-table"),
        pytest.param(lambda content: content.replace(b'"solved"', b'"sloved"'), id="no-such-field"),
        pytest.param(lambda content: content.replace(b'"BOOL"', b'"BF16"'), id="unknown-dtype"),
    ],
)
def test_a_damaged_shard_is_named(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "s.safetensors"
    write_shard(path, mixes_of(7))
    assert is_whole(path)
    path.write_bytes(damage(path.read_bytes()))
    assert not is_whole(path)
    with pytest.raises(
        ValueError, match=r"expected a shard of mixes in .*s\.safetensors, which cannot be read .*delete"
    ):
        open_shard(path)


@pytest.fixture(scope="module")
def mixes(tmp_path_factory: pytest.TempPathFactory) -> FixedMixes:
    return FixedMixes(folder_of(tmp_path_factory.mktemp("mixes")))


@settings(repeatable, max_examples=20)
@given(indices=st.lists(st.integers(0, 24), min_size=1, max_size=40))
def test_mixes_are_taken_in_any_order_across_shards(mixes: FixedMixes, indices: list[int]) -> None:
    taken = mixes.take(np.array(indices))
    whole = mixes_of(25)
    assert_equal(taken, whole[np.array(indices)])
    assert taken.images.flags.writeable  # a copy, fit for torch.from_numpy


def test_a_whole_set_counts_its_mixes(tmp_path: Path) -> None:
    mixes = FixedMixes(str(folder_of(tmp_path)))
    assert len(mixes) == 25
    assert mixes.facts["num_steps"].tolist() == [*range(25)]
    assert_equal(pickle.loads(pickle.dumps(mixes)).take(np.arange(3)), mixes_of(3))  # for spawned processes


@pytest.mark.parametrize(("image_size", "encoded"), [((64, 64), False), ((65, 64), True)])
def test_large_images_are_kept_without_loss(tmp_path: Path, image_size: tuple[int, int], encoded: bool) -> None:
    mixes = FixedMixes(folder_of(tmp_path, image_size))
    order = np.array([24, 0, 10, 9, 10])
    assert_equal(mixes.take(order), mixes_of(25, size=image_size)[order])
    expected, header = 10 * bytes_of_mix(image_size, 2, (3, 2)), 1000
    size = shard_path(tmp_path, 0).stat().st_size
    assert size < expected / 10 if encoded else expected < size < expected + header
    noise = np.random.default_rng(0).integers(0, 256, (5, 3, *image_size), dtype=np.uint8)
    write_shard(shard_path(tmp_path, 2), replace(mixes_of(5), images=noise))
    np.testing.assert_array_equal(FixedMixes(tmp_path).take(np.arange(20, 25)).images, noise)


def test_an_image_of_imagenet_takes_half_its_bytes() -> None:
    facts = 2 * (2 * 8 * 8 + 8 + 8 + 4) + 1 + 1 + 4
    assert bytes_of_mix((224, 224), 2, (8, 8)) == pytest.approx(0.52 * 3 * 224 * 224 + facts, abs=1)
    assert bytes_of_mix((32, 32), 2, (8, 8)) == 3 * 32 * 32 + facts


def test_missing_shards_are_counted(tmp_path: Path) -> None:
    shard_path(folder_of(tmp_path), 1).unlink()
    with pytest.raises(ValueError, match=r"expected 3 shards in .*, got 2: .*run the same supermix-generate again"):
        FixedMixes(tmp_path)


@pytest.mark.parametrize(("number", "count"), [(1, 9), (1, 11), (2, 10)])
def test_a_shard_of_another_set_is_named(tmp_path: Path, number: int, count: int) -> None:
    path = shard_path(folder_of(tmp_path / "mixes"), number)
    write_shard(path, mixes_of(count))
    with pytest.raises(ValueError, match=rf"expected (10|5) mixes in {path}, got {count}, of another set: delete it"):
        FixedMixes(tmp_path / "mixes")


def test_a_damaged_description_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mixes")
    (folder / "about.json").write_text('{"format": ')
    for opens in (FixedMixes, lambda path: keep_description(path, {}, lambda: 10)):
        with pytest.raises(ValueError, match=r"expected JSON in .*about\.json, got a damaged file .*delete it"):
            opens(folder)


@pytest.mark.parametrize("number", [-5, 25])
def test_numbers_of_no_mix_are_refused(number: int, tmp_path: Path) -> None:
    with pytest.raises(IndexError, match=rf"expected numbers in \[0, 25\), got {min(number, 3)} to {max(number, 3)}"):
        FixedMixes(folder_of(tmp_path / "mixes")).take(np.array([3, number]))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"without about\.json: make one with supermix-generate"):
        FixedMixes(tmp_path)
    folder_of(tmp_path, format=FORMAT + 1)
    with pytest.raises(ValueError, match=f"expected mixes in format {FORMAT}, got {FORMAT + 1}"):
        FixedMixes(tmp_path)
