"""Large images in Parquet shards: the views of image folders, one copy of the bytes, parts by name."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from supermix_pl.experiments.data import EncodedParquet, ImageFolder, RandAugment

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def pictures(count: int, seed: int) -> list[bytes]:
    """Encoded images of many sizes."""
    generator = np.random.default_rng(seed)
    images = []
    for number in range(count):
        height, width = generator.integers(20, 40, 2)
        buffer = io.BytesIO()
        kind = ("PNG", "JPEG")[number % 2]
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(buffer, kind)
        images.append(buffer.getvalue())
    return images


def write_shard(path: Path, images: list[bytes] | list[None], labels: list[int]) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array([{"bytes": item, "path": None} for item in images], kind), "label": labels})
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two training shards, validation images, and a test part without labels as ImageNet's on Hugging Face."""
    folder = tmp_path / "shards"
    folder.mkdir()
    train = pictures(12, seed=0)
    write_shard(folder / "train-00000-of-00002.parquet", train[:7], [0] * 6 + [1])
    write_shard(folder / "train-00001-of-00002.parquet", train[7:], [1] * 5)
    write_shard(folder / "validation-00000-of-00001.parquet", pictures(3, seed=1), [0, 1, 1])
    write_shard(folder / "test-00000-of-00001.parquet", pictures(2, seed=2), [-1, -1])
    return folder


def opened(folder: Path, **arguments: Any) -> EncodedParquet:
    defaults = {"test_part": "validation", "size": (16, 12), "num_workers": 0, "batch_size": 5}
    data = EncodedParquet(folder=folder, cache_dir=folder.parent / "cache", **{**defaults, **arguments})
    data.prepare_data()
    data.setup()
    return data


def epoch_of(data: Any, epoch: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader = data.train_dataloader()
    loader.set_epoch(epoch)
    return list(loader)


def same(first, second) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("augment", [True, False, RandAugment()], ids=repr)
def test_views_are_those_of_the_same_images_as_files(folder: Path, tmp_path: Path, augment: Any) -> None:
    for part, count, seed, labels in (("train", 12, 0, [0] * 6 + [1] * 6), ("val", 3, 1, [0, 1, 1])):
        for number, (image, label) in enumerate(zip(pictures(count, seed), labels, strict=True)):
            path = tmp_path / "files" / part / ["cat", "dog"][label] / f"{number:02d}.{['png', 'jpg'][number % 2]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image)
    data = opened(folder, augment=augment)
    files = ImageFolder(folder=tmp_path / "files", size=(16, 12), num_workers=0, batch_size=5, augment=augment)
    files.setup()
    assert (data.class_names, data.image_size, data.mean) == (["cat", "dog"], (16, 12), files.mean)
    assert same(epoch_of(data), epoch_of(files))
    assert same(list(data.test_dataloader()), list(files.test_dataloader()))


def test_views_are_functions_of_seed_epoch_and_sample(folder: Path) -> None:
    first = epoch_of(opened(folder))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert same(epoch_of(opened(folder, num_workers=1)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not same(epoch_of(opened(folder), 2), first)


def test_a_subset_of_every_class_can_be_taken(folder: Path) -> None:
    data = opened(folder, images_per_class=2)
    assert torch.cat([labels for _, labels in epoch_of(data)]).bincount().tolist() == [2, 2]


def test_bytes_are_copied_once_and_again_when_shards_change(folder: Path) -> None:
    def copies() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (folder.parent / "cache").glob("**/*.arrow")}

    first, before = epoch_of(opened(folder, augment=False)), copies()
    assert same(epoch_of(opened(folder, augment=False)), first)
    assert copies() == before
    write_shard(folder / "train-00001-of-00002.parquet", pictures(5, seed=9), [1] * 5)
    assert not same(epoch_of(opened(folder, augment=False)), first)


def test_one_part_can_be_both(folder: Path) -> None:
    data = opened(folder, train_part="validation", test_part="validation")
    assert sorted(torch.cat([labels for _, labels in epoch_of(data)]).tolist()) == [0, 1, 1]
    assert next(iter(data.test_dataloader()))[1].tolist() == [0, 1, 1]


def test_a_part_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"expected val-\*.parquet in .*, got \['test-00000-of-00001.parquet'"):
        opened(folder, test_part="val")
    data = opened(folder, train_part="training")
    assert len(data.test_dataloader()) == 1
    with pytest.raises(ValueError, match="expected train images, got a data set without any"):
        data.train_dataloader()


def test_the_unlabelled_test_part_says_to_name_another(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"missing or negative one .*an unlabelled part\? .* name another test_part"):
        opened(folder, test_part=None)


def test_broken_and_missing_bytes_are_named(folder: Path) -> None:
    write_shard(folder / "validation-00000-of-00001.parquet", [b"no image"], [0])
    with pytest.raises(ValueError, match=r"that Pillow can decode, got 8 other bytes in .*validation-00000.*, row 0"):
        next(iter(opened(folder).test_dataloader()))
    write_shard(folder / "validation-00000-of-00001.parquet", [None], [0])
    with pytest.raises(ValueError, match=r"expected the image's bytes, got none in .*validation-00000.*, row 0"):
        next(iter(opened(folder).test_dataloader()))


def test_what_goes_to_the_workers_is_small(folder: Path) -> None:
    source = opened(folder).opened.train
    assert source is not None
    images: Any = source.images  # pyright: ignore[reportAttributeAccessIssue]
    assert len(pickle.dumps(images)) < len(images.rows.data.column("image").to_pylist()) * 1024


def test_real_images_of_imagenet(shared: Path, tmp_path: Path) -> None:
    """A part of the sample, trained and tested on with the views of the paper's evaluation."""
    shard = shared / "data" / "imagenet_sample" / "test-00000-of-00001.parquet"
    folder = tmp_path / "sample"
    folder.mkdir()
    table = pq.read_table(shard)[:6]
    pq.write_table(table, folder / shard.name)
    data = opened(folder, train_part="test", test_part="test", size=224, resize_ratio=260 / 224, augment=RandAugment())
    assert (data.num_classes, data.class_names[:2]) == (1000, ["tench", "goldfish"])
    images, labels = next(iter(data.test_dataloader()))
    assert labels.tolist() == list(range(6))
    first = Image.open(io.BytesIO(table["image"][0].as_py()["bytes"]))
    resized = np.array(first.resize((260, 260), Image.Resampling.BILINEAR))[18:242, 18:242]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    torch.testing.assert_close((images[0] * std + mean) * 255, torch.from_numpy(resized).permute(2, 0, 1).float())
    assert next(iter(data.train_dataloader()))[0].shape == (5, 3, 224, 224)
