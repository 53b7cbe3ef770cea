"""Images without labels: shards, the down-sampled ImageNet, files; one cache; bad folders."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from supermix_pl.experiments.data import decoded, unlabelled_images


def pictures(count: int, size: tuple[int, int] = (8, 8), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, *size), dtype=np.uint8)


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def fitted(pixels: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray(pixels.transpose(1, 2, 0)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image).transpose(2, 0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "natural"
    folder.mkdir()
    return folder


def opened(folder: Path, size: int = 8) -> np.ndarray:
    return unlabelled_images(folder, size=size, cache_dir=folder.parent / "cache")


def write_shard(path: Path, images: np.ndarray) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": encoded(image), "path": None} for image in images]
    pq.write_table(pa.table({"image": pa.array(rows, kind), "note": ["no label"] * len(rows)}), path)


def test_shards_of_any_name_need_no_labels(folder: Path) -> None:
    images = pictures(9)
    write_shard(folder / "train-00000-of-00001.parquet", images[4:])
    write_shard(folder / "a.parquet", images[:4])
    np.testing.assert_array_equal(opened(folder), images)


def test_links_to_folders_are_followed_and_circles_end(folder: Path) -> None:
    images = pictures(3)
    for name, image in zip(("real/0.png", "real/deep/1.png", "natural/a/2.png"), images, strict=True):
        path = folder.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(image))
    (folder / "b").symlink_to(folder.parent / "real")
    (folder.parent / "real" / "deep" / "back").symlink_to(folder.parent / "real")
    (folder / "folder.png").mkdir()
    np.testing.assert_array_equal(opened(folder), images[[2, 0, 1]])
    (folder.parent / "link").symlink_to(folder)
    np.testing.assert_array_equal(opened(folder.parent / "link"), images[[2, 0, 1]])


def test_a_folder_that_cannot_be_read_is_not_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "closed").mkdir()
    (folder / "0.png").write_bytes(encoded(pictures(1)[0]))
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="closed"):
        opened(folder)


def test_folders_named_like_shards_are_folders(folder: Path) -> None:
    (folder / "x.parquet").mkdir()
    (folder / "x.parquet" / "0.png").write_bytes(encoded(pictures(1)[0]))
    np.testing.assert_array_equal(opened(folder), pictures(1))


def test_files_at_any_depth_come_in_the_order_of_their_paths(folder: Path) -> None:
    images = pictures(3)
    for name, image in zip(("a/b/2.png", "a/c.PNG", "d.png"), images, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(image))
    (folder / "notes.txt").touch()
    np.testing.assert_array_equal(opened(folder), images)


def test_batches_of_the_downsampled_imagenet(folder: Path) -> None:
    images = pictures(12)
    for number, rows in ((1, slice(0, 5)), (2, slice(5, 7)), (10, slice(7, 12))):
        data = images[rows].reshape(-1, 192)
        np.savez(folder / f"train_data_batch_{number}.npz", data=data, labels=np.arange(len(data)), mean=data.mean(0))
    (folder / "val_data.npz").write_bytes(b"not read")
    np.testing.assert_array_equal(opened(folder), images)


def test_npz_is_taken_where_there_are_both(folder: Path) -> None:
    images = pictures(2)
    np.savez(folder / "train_data_batch_1.npz", data=images.reshape(2, -1))
    (folder / "train_data_batch_1").write_bytes(b"broken")
    (folder / "train_data_batch_1.zip").write_bytes(b"not read")
    np.testing.assert_array_equal(opened(folder), images)


def test_a_pickle_is_refused_and_not_run(folder: Path, tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "made"),)

    (folder / "train_data_batch_1").write_bytes(pickle.dumps({"data": Malicious()}))
    with pytest.raises(
        ValueError, match=r"train_data_batch_1, which cannot be read .* in the .npz format, not the pickl"
    ):
        opened(folder)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": [1]}, r"an array `data`, got .*train_data_batch_1.npz, which cannot be read \(.*data"),
        ({"data": [{}]}, r"which cannot be read \(Object arrays cannot be loaded"),
        ({"data": [1, 2]}, r"as uint8 \(n, 3 \* size \* size\), got int64 \(2,\)"),
        ({"data": np.zeros((2, 192))}, r"got float64 \(2, 192\)"),
        ({"data": np.zeros((2, 190), np.uint8)}, r"got uint8 \(2, 190\)"),
    ],
)
def test_bad_batches_are_refused(folder: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(folder / "train_data_batch_1.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        opened(folder)
    assert [path.suffix for path in (folder.parent / "cache").iterdir()] == [".lock"]


@pytest.mark.parametrize("contents", [b"PK\x03\x04 broken", b"nonsense", b""])
def test_a_broken_npz_is_refused(folder: Path, contents: bytes) -> None:
    (folder / "train_data_batch_1.npz").write_bytes(contents)
    with pytest.raises(ValueError, match=r"batch_1.npz, which cannot be read .*: download the release"):
        opened(folder)


@pytest.mark.parametrize("kind", ["shards", "batches", "files"])
def test_other_sizes_are_resized_and_cropped(folder: Path, kind: str) -> None:
    images = pictures(2, (12, 12))
    if kind == "shards":
        write_shard(folder / "a.parquet", images)
    elif kind == "batches":
        np.savez(folder / "train_data_batch_1.npz", data=images.reshape(2, -1))
    else:
        for number, image in enumerate(images):
            (folder / f"{number}.png").write_bytes(encoded(image))
    np.testing.assert_array_equal(opened(folder, size=8), np.stack([fitted(image, 8) for image in images]))


def test_files_that_are_not_square_lose_their_edges(folder: Path) -> None:
    image = pictures(1, (8, 14))[0]
    (folder / "a.png").write_bytes(encoded(image))
    np.testing.assert_array_equal(opened(folder)[0], image[:, :, 3:11])


def test_images_are_decoded_once_and_memory_mapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.png").write_bytes(encoded(pictures(1)[0]))
    opened(folder)
    (folder / "b.png").write_bytes(encoded(pictures(1, seed=1)[0]))
    np.testing.assert_array_equal(opened(folder), np.concatenate([pictures(1), pictures(1, seed=1)]))
    monkeypatch.setattr(decoded, "to_pixels", lambda *_: pytest.fail("decoded again"))
    images = opened(folder)
    assert isinstance(images.base, np.memmap)
    assert not images.flags.writeable


def test_folders_without_images_say_what_is_there(folder: Path) -> None:
    (folder / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"expected \*.parquet, train_data_batch_\* or image files in .*'notes.txt'"):
        opened(folder)
    with pytest.raises(ValueError, match="got no such folder"):
        opened(folder / "nowhere")


def test_a_broken_file_is_named(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"that Pillow can decode, got .*a.png: cannot identify"):
        opened(folder)


def test_real_unlabelled_images(shared: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    shard = shared / "data" / "unlabelled32" / "train-00000-of-00001.parquet"
    table = pq.read_table(shard)[:300]
    (tmp_path / "external").mkdir()
    pq.write_table(table, tmp_path / "external" / shard.name)
    images = opened(tmp_path / "external", size=32)
    assert images.shape == (300, 3, 32, 32)
    last = Image.open(io.BytesIO(table["image"][299].as_py()["bytes"])).convert("RGB")
    np.testing.assert_array_equal(images[299], np.asarray(last).transpose(2, 0, 1))
