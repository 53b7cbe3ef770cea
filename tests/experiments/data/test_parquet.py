"""Parquet shards: columns found, pixels without loss, one cache, bad shards refused."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from supermix_pl.experiments.data import EncodedParquet, HuggingFace, Parquet, decoded

pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

NAMES = ["cat", "dog", "owl"]


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, lossless=True)
    return buffer.getvalue()


def pictures(count: int, *, seed: int = 0, size: tuple[int, int] = (5, 6)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def write_shard(
    path: Path, images: Sequence[bytes | None], labels: list, *, names=NAMES, columns=("image", "label")
) -> None:
    image, label = columns
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array([{"bytes": item, "path": None} for item in images], kind), label: labels})
    features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
    if names is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two training shards and a test shard; PNG, lossless WebP and a grey-scale image among them."""
    folder = tmp_path / "animals"
    folder.mkdir()
    train = pictures(10)
    kinds = ["PNG", "WEBP"] * 5
    images = [encoded(pixels, kind) for pixels, kind in zip(train, kinds, strict=True)]
    write_shard(folder / "train-00000-of-00002.parquet", images[:7], [0, 1, 2, 0, 1, 2, 0])
    write_shard(folder / "train-00001-of-00002.parquet", images[7:], [1, 2, 0])
    grey = pictures(1, seed=1)[0, :, :, 0]
    write_shard(folder / "test-00000-of-00001.parquet", [encoded(grey), images[0]], [2, 1])
    return folder


def opened(folder: Path, **arguments: Any) -> Parquet:
    data = Parquet(folder=folder, cache_dir=folder.parent / "cache", **arguments)
    data.prepare_data()
    data.setup()
    return data


def train_pixels(data: Parquet) -> np.ndarray:
    loader = data.train_dataloader()
    loader.shuffle = loader.augment = False
    images = torch.cat([images for images, _ in loader])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    return ((images * std + mean) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_shards_come_out_without_loss_in_their_order(folder: Path) -> None:
    data = opened(folder)
    assert (data.num_classes, data.class_names, data.image_size) == (3, NAMES, (5, 6))
    np.testing.assert_array_equal(train_pixels(data), pictures(10))
    labels = torch.cat([labels for _, labels in data.train_dataloader()])
    assert sorted(labels.tolist()) == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    images, labels = next(iter(data.test_dataloader()))
    assert labels.tolist() == [2, 1]
    assert images.shape == (2, 3, 5, 6)


def test_statistics_are_those_of_the_training_pixels(folder: Path) -> None:
    data = opened(folder)
    pixels = pictures(10) / 255
    assert data.mean == pytest.approx(pixels.mean((0, 1, 2)), abs=1e-12)
    assert data.std == pytest.approx(pixels.std((0, 1, 2)), abs=1e-12)


def test_given_statistics_win(folder: Path) -> None:
    data = opened(folder, mean=[0.5, 0.4, 0.3], std=[1, 2, 3])
    assert (data.mean, data.std) == ((0.5, 0.4, 0.3), (1.0, 2.0, 3.0))
    np.testing.assert_array_equal(train_pixels(data), pictures(10))


def test_images_are_decoded_once_and_memory_mapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(folder)
    monkeypatch.setattr(decoded, "to_pixels", lambda *_: pytest.fail("decoded again"))
    data = opened(folder)
    assert data.opened.train is not None
    assert isinstance(data.opened.train.images.base, np.memmap)  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_array_equal(train_pixels(data), pictures(10))


def test_a_changed_shard_or_another_size_is_decoded_anew(folder: Path) -> None:
    opened(folder)
    write_shard(folder / "train-00001-of-00002.parquet", [encoded(pixels) for pixels in pictures(3, seed=9)], [1, 2, 0])
    np.testing.assert_array_equal(train_pixels(opened(folder))[7:], pictures(3, seed=9))
    assert opened(folder, size=(4, 3)).image_size == (4, 3)
    assert opened(folder).image_size == (5, 6)


def test_a_decoding_that_fails_leaves_nothing(folder: Path) -> None:
    write_shard(folder / "train-00001-of-00002.parquet", [b"no image"], [0])
    with pytest.raises(
        ValueError, match=r"that Pillow can decode, got 8 other bytes in .*train-00001-of-00002.*, row 0"
    ):
        opened(folder)
    assert not list((folder.parent / "cache").glob("**/*.npy"))


@pytest.mark.parametrize("part", ["test", "train"])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["cat", "owl", "dog"], "got 'dog' as class 1 in .*train-00000.* and 'owl' in"),
        (["cat", "dog"], "got 'owl' as class 2 in .*train-00000.* and None in"),
    ],
)
@pytest.mark.parametrize("module", [Parquet, EncodedParquet])
def test_shards_whose_labels_mean_different_classes(
    folder: Path, part: str, names: list[str], said: str, module: Any
) -> None:
    number = 1 if part == "train" else 0
    path = folder / f"{part}-0000{number}-of-0000{number + 1}.parquet"
    write_shard(path, [encoded(pictures(1)[0])], [0], names=names)
    with pytest.raises(ValueError, match=f"the same classes in the same order in all shards, {said} .*{part}-0000"):
        module(folder=folder, cache_dir=folder.parent / "cache", test_part="test").prepare_data()


def test_metadata_without_names(folder: Path) -> None:
    for number, about in enumerate((b"null", b"not json", b'{"info": null}', b'{"info": {"features": null}}')):
        path = folder / f"train-{number}.parquet"
        write_shard(path, [encoded(pictures(1)[0])], [0], names=None)
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({"huggingface": about}), path)
    assert opened(folder).class_names == NAMES  # those of the other shards


def test_sizes_that_differ_need_a_size(folder: Path) -> None:
    other = encoded(pictures(1, size=(8, 4))[0])
    write_shard(folder / "train-00001-of-00002.parquet", [other], [0])
    with pytest.raises(
        ValueError, match=r"of one size, 5x6 as the first, got 8x4 as image 7 of train of .*animals: give size="
    ):
        opened(folder)
    assert opened(folder, size=4).image_size == (4, 4)
    assert train_pixels(opened(folder, size=4)).shape == (8, 4, 4, 3)


def test_parts_of_different_sizes_need_a_size(folder: Path) -> None:
    write_shard(folder / "test-00000-of-00001.parquet", [encoded(pictures(1, size=(8, 4))[0])], [0])
    with pytest.raises(ValueError, match="expected training and test images of one size"):
        opened(folder)


def test_columns_of_other_names_are_found_or_given(folder: Path) -> None:
    shard = folder / "train-00000-of-00001.parquet"
    for path in folder.iterdir():
        path.unlink()
    write_shard(shard, [encoded(pictures(1)[0])] * 2, [0, 1], columns=("photo", "fine_label"), names=None)
    assert opened(folder).class_names == ["0", "1"]
    write_shard(shard, [encoded(pictures(1)[0])] * 2, [0, 1], columns=("photo", "kind"))
    with pytest.raises(
        ValueError, match=r"labels in label or .*got columns photo \(struct.*kind \(int64\).*give label_col"
    ):
        opened(folder)
    assert opened(folder, label_column="kind").class_names == NAMES


def test_a_column_that_is_not_there_names_those_that_are(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"labels in fine of .*train-00000.*, got columns image .*, label"):
        opened(folder, label_column="fine")
    with pytest.raises(ValueError, match=r"expected images .* in label of .*, got columns image"):
        opened(folder, image_column="label")
    with pytest.raises(ValueError, match=r"expected integer labels in image of"):
        opened(folder, label_column="image")
    pq.write_table(pa.table({"label": [0]}), folder / "train-00000-of-00002.parquet")
    with pytest.raises(
        ValueError, match=r"expected images .* in one column of .*got columns label \(int64\): give image_col"
    ):
        opened(folder)


def test_a_later_shard_without_the_column_is_named(folder: Path) -> None:
    write_shard(folder / "train-00001-of-00002.parquet", [encoded(pictures(1)[0])], [0], columns=("image", "class"))
    with pytest.raises(ValueError, match=r"labels in label of .*train-00001.*got columns image .*class"):
        opened(folder)


def test_a_file_that_is_not_parquet_is_named(folder: Path) -> None:
    (folder / "train-00000-of-00002.parquet").write_text("a page that says 404")
    with pytest.raises(ValueError, match=r"expected a Parquet file, got .*train-00000-of-00002.parquet"):
        opened(folder)


@pytest.mark.parametrize("damage", ["cut off", "overwritten"])
def test_a_damaged_shard_is_refused(folder: Path, damage: str) -> None:
    shard = folder / "train-00000-of-00002.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-60] if damage == "cut off" else whole[:4] + b"\xff" * 60 + whole[64:])
    said = {
        "cut off": "a Parquet file, got .*00000-of-00002",
        "overwritten": "whole Parquet files .*: fetch them again",
    }
    with pytest.raises(ValueError, match=f"(?s)expected {said[damage]}"):
        opened(folder)
    shard.write_bytes(whole)
    np.testing.assert_array_equal(train_pixels(opened(folder)), pictures(10))


def test_a_damaged_copy_of_the_shards_says_what_to_delete(folder: Path) -> None:
    opened(folder)
    for path in (folder.parent / "cache").glob("**/parquet-train.arrow"):
        os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"(?s)expected whole .*a copy in .*cache, got .*delete a damaged copy"):
        opened(folder)


@pytest.mark.slow
def test_a_disk_without_room_for_the_copy_is_told_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(ValueError, match=r"and room for a copy in .*, got .*No space left on device"):
        opened(folder)


@pytest.mark.slow
def test_processes_that_start_at_once_decode_once(folder: Path) -> None:
    arguments = f"folder={str(folder)!r}, cache_dir={str(folder.parent / 'cache')!r}"
    code = f"from supermix_pl.experiments.data import Parquet; Parquet({arguments}).setup()"
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = "".join(process.communicate(timeout=100)[1] for process in running)
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert said.count("decoding 10 images") == 1
    np.testing.assert_array_equal(train_pixels(opened(folder)), pictures(10))


def test_grey_images_of_16_bits_keep_their_range(folder: Path) -> None:
    values = np.linspace(0, 65535, 30).reshape(5, 6).round().astype(np.uint16)
    write_shard(folder / "test-00000-of-00001.parquet", [encoded(values)], [0])
    expected = (values / 257).round().astype(np.uint8)
    source = opened(folder).opened.test
    np.testing.assert_array_equal(source.images[0], expected[None].repeat(3, axis=0))  # pyright: ignore


def test_a_data_set_that_datasets_opens_by_name(folder: Path) -> None:
    """A local folder stands for one of the Hub."""
    data = HuggingFace(name=str(folder), cache_dir=folder.parent / "cache")
    data.prepare_data()
    data.setup()
    assert data.class_names == NAMES
    np.testing.assert_array_equal(train_pixels(data), pictures(10))
    with pytest.raises(ValueError, match=r"expected val in .*animals, got \['test', 'train'\]"):
        HuggingFace(name=str(folder), cache_dir=folder.parent / "cache", test_part="val").setup()
    with pytest.raises(ValueError, match=r"labels in kind of train of .*, got columns image .*, label"):
        HuggingFace(name=str(folder), cache_dir=folder.parent / "cache", label_column="kind").setup()


@pytest.mark.parametrize("labels", [[0, -1], [0, None]])
def test_unlabelled_rows_are_refused(folder: Path, labels: list) -> None:
    write_shard(folder / "test-00000-of-00001.parquet", [encoded(pictures(1)[0])] * 2, labels)
    with pytest.raises(
        ValueError, match=r"labels from 0 on in column 'label', got a missing or negative .*test-00000.*, row 1:"
    ):
        opened(folder)


def test_labels_beyond_the_class_names_are_refused(folder: Path) -> None:
    write_shard(folder / "test-00000-of-00001.parquet", [encoded(pictures(1)[0])], [3])
    with pytest.raises(
        ValueError, match=r"expected labels below 3, the number of class names, got 3 in 'label' of .*test-"
    ):
        opened(folder)


def test_images_without_bytes_are_refused(folder: Path) -> None:
    write_shard(folder / "test-00000-of-00001.parquet", [None], [0])
    with pytest.raises(ValueError, match=r"expected the image's bytes, got none in .*test-00000.*row 0"):
        opened(folder)


def test_a_folder_without_shards_says_what_is_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "data.csv").touch()
    with pytest.raises(ValueError, match=r"expected train-\*.parquet or test-\*.parquet in .*, got \['data.csv'\]"):
        opened(tmp_path / "empty")
    with pytest.raises(ValueError, match="got no such folder"):
        opened(tmp_path / "nowhere")


def test_a_part_alone_works_for_what_it_can(folder: Path) -> None:
    for path in folder.glob("train-*"):
        path.unlink()
    data = opened(folder)
    assert len(data.val_dataloader()) == len(data.test_dataloader()) == 1
    with pytest.raises(ValueError, match="expected train images, got a data set without any"):
        data.train_dataloader()


def test_default_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert Parquet(folder="x").cache_dir == Path("/caches/supermix_pl")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Parquet(folder="x").cache_dir == Path.home() / ".cache" / "supermix_pl"


def test_real_images_of_cifar100(shared: Path, tmp_path: Path) -> None:
    """The test shard of the real data: pixels as Pillow alone gives them."""
    shard = shared / "data" / "cifar100" / "test-00000-of-00001.parquet"
    folder = tmp_path / "cifar100"
    folder.mkdir()
    pq.write_table(pq.read_table(shard)[:600], folder / shard.name)
    data = opened(folder)
    assert (data.num_classes, data.image_size, data.class_names[0]) == (100, (32, 32), "apple")
    rows = pq.read_table(folder / shard.name).to_pylist()
    pixels = [np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")) for row in rows]
    source = data.opened.test
    np.testing.assert_array_equal(source.images, np.stack(pixels).transpose(0, 3, 1, 2))  # pyright: ignore
    assert next(iter(data.test_dataloader()))[1].tolist() == [row["fine_label"] for row in rows][:500]
