"""Folders of image files: sizes, views that are functions of (seed, epoch, sample), bad folders."""

import inspect
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from supermix_pl.experiments.data import CropFlip, ImageFolder, RandAugment, SmallImageView
from supermix_pl.experiments.data.crops import CroppedImages
from supermix_pl.experiments.data.decoding import DecodingSource
from supermix_pl.experiments.data.pixels import Normalisation
from supermix_pl.experiments.data.rgb import EncodedFiles
from supermix_pl.experiments.opening import composed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve training and four validation images of two classes and many sizes."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                height, width = generator.integers(20, 40, 2)
                pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    return tmp_path


def opened(folder: Path, **arguments: Any) -> ImageFolder:
    settings: dict[str, Any] = {"size": (16, 12), "num_workers": 0, "batch_size": 5, **arguments}
    data = ImageFolder(folder=folder, **settings)
    data.setup()
    return data


def epoch_of(data: ImageFolder, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader = data.train_dataloader()
    loader.set_epoch(epoch)
    return list(loader)


def same(first, second) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_batches_have_the_size_that_was_asked_for(folder: Path) -> None:
    data = opened(folder)
    assert (data.class_names, data.num_classes, data.image_size) == (["cat", "dog"], 2, (16, 12))
    batches = epoch_of(data, 0)
    assert [images.shape for images, _ in batches] == [(5, 3, 16, 12), (5, 3, 16, 12), (2, 3, 16, 12)]
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == [0] * 6 + [1] * 6
    assert isinstance(batches[0], tuple)
    assert batches[0][0].dtype == torch.float32
    assert batches[0][1].dtype == torch.int64


def test_evaluation_is_the_normalised_centre(folder: Path) -> None:
    pixels = np.full((32, 32, 3), 255, dtype=np.uint8)
    pixels[8:24, 8:24] = (51, 102, 153)
    for number in range(2):
        Image.fromarray(pixels).save(folder / "val" / "cat" / f"{number}.png")
    data = opened(folder, size=8, resize_ratio=2.0, mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])
    images, labels = next(iter(data.test_dataloader()))
    assert labels.tolist() == [0, 0, 1, 1]
    expected = torch.tensor([0.2, 0.4, 0.6]).view(3, 1, 1).expand(3, 4, 4)
    torch.testing.assert_close(images[0, :, 2:6, 2:6], expected, atol=0.01, rtol=0)


def test_views_are_functions_of_seed_epoch_and_sample(folder: Path) -> None:
    first = epoch_of(opened(folder), 1)
    torch.manual_seed(5)
    assert same(epoch_of(opened(folder), 1), first)
    assert not same(epoch_of(opened(folder), 2), first)
    assert not same(epoch_of(opened(folder, seed=1), 1), first)
    ordered = {float(image.sum()) for images, _ in epoch_of(opened(folder, batch_size=3), 1) for image in images}
    assert ordered == {float(image.sum()) for images, _ in first for image in images}


def test_workers_give_the_same_batches(folder: Path) -> None:
    assert same(epoch_of(opened(folder, num_workers=2), 1), epoch_of(opened(folder), 1))


def test_indices_come_with_the_images(folder: Path) -> None:
    data = opened(folder, with_indices=True)
    batches: list[Any] = epoch_of(data, 1)
    assert same([batch[:2] for batch in batches], epoch_of(opened(folder), 1))
    assert sorted(torch.cat([indices for *_, indices in batches]).tolist()) == list(range(12))
    assert all(labels.tolist() == data.train_labels[indices].tolist() for _, labels, indices in batches)


def test_state_resumes_with_workers_that_have_run_ahead(folder: Path) -> None:
    whole = epoch_of(opened(folder), 0)
    stopped = opened(folder, num_workers=2).train_dataloader()
    iterator = iter(stopped)
    taken = [next(iterator)]
    resumed = opened(folder).train_dataloader()
    resumed.load_state_dict(stopped.state_dict())
    assert same(taken + list(resumed), whole)


class Processes(EncodedFiles):
    """Each image shows the number of the process that decodes it."""

    def __init__(self) -> None:
        super().__init__([Path()] * 6, [0] * 6)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(np.frombuffer(os.getpid().to_bytes(3, "big"), dtype=np.uint8).reshape(1, 1, 3))


def test_workers_stay_for_the_next_pass_and_one_batch_needs_none() -> None:
    source = DecodingSource(
        images=Processes(),
        training_view=v2.PILToTensor(),
        evaluation_view=v2.PILToTensor(),
        augment=None,
        normalisation=Normalisation([0.0] * 3, [1 / 255] * 3),
        num_workers=1,
    )
    order = np.split(np.arange(6), 3)

    def processes(batches: Iterable[Any]) -> set[int]:
        return {int.from_bytes(bytes(images.round().byte().flatten()[:3].tolist()), "big") for images, _ in batches}

    first = processes(source.batches(order, stream=None))
    assert len(first) == 1
    assert os.getpid() not in first
    assert processes(source.batches(order, stream=(1,))) == first
    assert processes(source.batches(order[:1], stream=None)) == {os.getpid()}
    begun = source.batches(order, stream=None)
    assert {*processes([next(begun)]), *processes(source.batches(order, stream=None))} > first
    (batch, _) = source.batches(order[:2], stream=None, device=torch.device("meta"))
    assert all(part.is_meta for part in batch)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_global_generator_is_not_advanced(folder: Path, num_workers: int) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    epoch_of(opened(folder, num_workers=num_workers), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_augmentation_training_images_come_as_in_evaluation(folder: Path) -> None:
    data = opened(folder, augment=False)
    assert sorted(float(i.sum()) for images, _ in epoch_of(data, 0) for i in images) == sorted(
        float(i.sum()) for images, _ in epoch_of(data, 1) for i in images
    )


def test_a_policy_follows_the_random_resized_crop(folder: Path) -> None:
    policy = RandAugment(num_ops=2, magnitude=14)
    data = opened(folder, augment=policy)
    augmented, plain = epoch_of(data, 1), epoch_of(opened(folder), 1)
    images, before = (torch.cat([images for images, _ in epoch]) for epoch in (augmented, plain))
    assert images.shape == before.shape
    assert (images != before).flatten(1).any(dim=1).float().mean() > 0.5
    other_batches = epoch_of(opened(folder, augment=policy, batch_size=4, num_workers=2), 1)
    assert torch.cat([images for images, _ in other_batches]).equal(images)
    assert not same(epoch_of(data, 2), augmented)
    # It is the pixels of the same crop that are augmented: the one sample whose draws are known shows it
    sample = data.opened.train
    assert sample is not None
    stream, index = (5, 6), 3
    ((view, _),) = sample.batches([np.array([index])], stream=stream)
    source = opened(folder).opened.train
    assert source is not None
    ((crop, _),) = source.batches([np.array([index])], stream=stream)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    pixels = ((crop * std + mean) * 255).round().to(torch.uint8)
    draws = policy.draw(np.random.default_rng((*stream, index, 1)), 1)
    expected = policy.apply(pixels, draws)
    torch.testing.assert_close(view, (expected / 255 - mean) / std)


def test_the_config_of_imagenet_evaluates_at_260_and_224() -> None:
    for name in ("imagenet", "imagenet_parquet"):
        node = composed("train", [f"data={name}"]).data
        assert (node["size"], round(node["size"] * node["resize_ratio"]), node["batch_size"]) == (224, 260, 256)
    stock, parameters = composed("train", ["data=image_folder"]).data, inspect.signature(CroppedImages)
    for name in ("size", "resize_ratio", "num_workers"):
        assert stock[name] == parameters.parameters[name].default


def test_a_broken_file_is_named(folder: Path) -> None:
    (folder / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"expected an image that Pillow can decode, got .*train/cat/0.png"):
        epoch_of(opened(folder), 0)


def test_folders_in_a_circle_give_each_image_once(folder: Path) -> None:
    (folder / "train" / "cat" / "deep").mkdir()
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "cat" / "deep" / "0.png")
    (folder / "train" / "cat" / "deep" / "back").symlink_to(folder / "train" / "cat")
    assert sum(len(labels) for _, labels in epoch_of(opened(folder), 0)) == 12


def test_a_class_without_images_is_named(folder: Path) -> None:
    for part in ("train", "val"):
        (folder / part / "owl").mkdir()
    with pytest.raises(ValueError, match=r"expected image files in .*train/owl, got none"):
        opened(folder)


def test_missing_and_unequal_parts_are_refused(folder: Path) -> None:
    (folder / "val" / "owl").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "val" / "owl" / "0.png")
    with pytest.raises(
        ValueError, match=r"expected the same classes in train and val of .*, got \['owl'\] in one only"
    ):
        opened(folder)
    with pytest.raises(ValueError, match=r"expected a folder .*/train with one sub-folder a class, got none"):
        opened(folder / "nowhere")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"augment": CropFlip()}, TypeError, "expected augment=True, False or a policy, got a CropFlip, whose crop is"),
        ({"augment": SmallImageView()}, TypeError, "got a SmallImageView, .* so choose an augment=imagenet_"),
        ({"resize_ratio": 0.5}, ValueError, "expected resize_ratio >= 1, got 0.5"),
        ({"size": 0}, ValueError, "expected size to be an integer >= 1, got 0"),
        ({"size": (3, 4, 5)}, ValueError, "expected size as a side or .height, width., got .3, 4, 5."),
        ({"num_workers": -1}, ValueError, "expected num_workers to be an integer >= 0, got -1"),
    ],
)
def test_bad_arguments_are_refused(folder: Path, arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ImageFolder(folder=folder, **arguments)
