"""The data modules: subsets, held-out parts, CIFAR's files, drawings, their configs."""

import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torchvision.datasets import cifar as torchvision_cifar

from supermix_pl.experiments.data import ArraySource, Cifar10, Cifar100, CropFlip, ImageDataModule, Shapes
from supermix_pl.experiments.data.datamodule import Opened, split_indices
from supermix_pl.experiments.data.shapes import CLASS_NAMES, MEAN, STD, draw_shapes

CONF = Path(__file__).resolve().parents[3] / "conf" / "data"


class Numbered(ImageDataModule):
    """60 training images and 10 test images; the first pixel of each is its number."""

    def open_data(self) -> Opened:
        images = np.zeros((70, 3, 2, 2), dtype=np.uint8)
        images[:, :, 0, 0] = np.arange(70)[:, None]
        labels = np.arange(70) % 3
        return self._opened_arrays(
            train=(images[:60], labels[:60]),
            test=(images[60:], labels[60:]),
            class_names=["a", "b", "c"],
            mean=(0.0, 0.0, 0.0),
            std=(1 / 255, 1 / 255, 1 / 255),
        )


def opened(**arguments: Any) -> Numbered:
    data = Numbered(**{"batch_size": 7, "augment": False, **arguments})
    data.setup()
    return data


def numbers(loader) -> list[int]:
    return torch.cat([images[:, 0, 0, 0] for images, _ in loader]).round().int().tolist()


def test_validation_is_the_test_set_unless_a_fraction_is_held_out() -> None:
    data = opened()
    assert sorted(numbers(data.train_dataloader())) == list(range(60))
    assert numbers(data.val_dataloader()) == numbers(data.test_dataloader()) == list(range(60, 70))


def test_held_out_images_are_stratified_and_not_trained_on() -> None:
    data = opened(validation_fraction=0.25, images_per_class=4)
    held, trained = numbers(data.val_dataloader()), numbers(data.train_dataloader())
    assert held == sorted(held)
    assert np.bincount(np.array(held) % 3).tolist() == [5, 5, 5]
    assert np.bincount(np.array(trained) % 3).tolist() == [4, 4, 4]
    assert not set(held) & set(trained)
    assert max(*held, *trained) < 60
    assert numbers(data.test_dataloader()) == list(range(60, 70))


def test_indices_count_the_images_that_are_trained_on() -> None:
    arguments: dict[str, Any] = {"validation_fraction": 0.25, "images_per_class": 4}
    data, plain = opened(with_indices=True, **arguments), opened(**arguments)
    trained = data.training_samples()[1]
    images, labels, indices = (torch.cat(field) for field in zip(*data.train_dataloader(), strict=True))
    assert sorted(indices.tolist()) == list(range(len(data.train_labels))) == list(range(12))
    assert images[:, 0, 0, 0].round().int().tolist() == trained[indices].tolist() == numbers(plain.train_dataloader())
    assert labels.tolist() == data.train_labels[indices].tolist()
    assert [len(batch) for batch in (*data.val_dataloader(), *data.test_dataloader())] == [2, 2]


def test_subset_follows_the_data_seed_and_not_the_seed() -> None:
    first, again, other, own = (
        sorted(numbers(opened(images_per_class=4, **seeds).train_dataloader()))
        for seeds in ({"seed": 0}, {"seed": 1}, {"data_seed": 1}, {"seed": 1, "data_seed": None})
    )
    assert first == again != other == own


def test_smaller_subsets_lie_in_larger_ones() -> None:
    labels = np.random.default_rng(0).integers(0, 5, 200)
    small, large = (
        set(split_indices(labels, validation_fraction=0.1, images_per_class=n, seed=3)[0].tolist()) for n in (5, 20)
    )
    assert small < large


def test_subset_larger_than_a_class_names_it() -> None:
    with pytest.raises(ValueError, match="at least 11 training images of class 0, got 10 of 20 beside 10 held out"):
        opened(validation_fraction=0.5, images_per_class=11).train_dataloader()


def test_class_without_training_images_is_skipped() -> None:
    train, held = split_indices(np.array([2, 0, 2, 0]), validation_fraction=0.5, images_per_class=1, seed=0)
    assert (len(train), len(held)) == (2, 2)


def test_train_batches_are_augmented_and_others_are_not() -> None:
    data = opened(augment=CropFlip(padding=1))
    assert sorted(numbers(data.train_dataloader())) != list(range(60))
    assert numbers(data.test_dataloader()) == list(range(60, 70))
    plain, default = opened(augment=False).opened.train, opened(augment=True).opened.train
    assert isinstance(plain, ArraySource)
    assert isinstance(default, ArraySource)
    assert (plain.augment, default.augment) == (None, CropFlip(padding=4, flip=True))


def test_loader_arguments_reach_the_loaders() -> None:
    data = opened(drop_last=True, eval_batch_size=4, seed=9)
    train, test = data.train_dataloader(), data.test_dataloader()
    assert [len(labels) for _, labels in train] == [7] * 8
    assert [len(labels) for _, labels in test] == [4, 4, 2]
    assert train.seed == 9


def test_asking_before_setup_says_so() -> None:
    data = Numbered()
    with pytest.raises(RuntimeError, match=r"expected setup\(\) before"):
        _ = data.num_classes
    with pytest.raises(RuntimeError, match=r"expected setup\(\) before"):
        data.train_dataloader()


def test_pickled_module_leaves_the_images_behind_and_opens_them_again() -> None:
    data = pickle.loads(pickle.dumps(opened()))
    with pytest.raises(RuntimeError, match="setup"):
        data.train_dataloader()
    data.setup()
    assert numbers(data.test_dataloader()) == list(range(60, 70))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "expected batch_size to be an integer >= 1, got 0"),
        ({"eval_batch_size": -1}, "expected eval_batch_size to be an integer >= 1, got -1"),
        ({"seed": -1}, "expected seed to be an integer >= 0, got -1"),
        ({"data_seed": -1}, "expected data_seed to be an integer >= 0, got -1"),
        ({"images_per_class": 0}, "expected images_per_class to be an integer >= 1, got 0"),
        ({"validation_fraction": 1.0}, r"expected validation_fraction in \[0, 1\), got 1.0"),
        ({"mean": [0.5]}, r"expected mean of three channels, finite, got \[0.5\]"),
        ({"std": [1.0, 0.0, 1.0]}, r"expected std of three channels, finite, above 0, got \[1.0, 0.0, 1.0\]"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Numbered(**arguments)


@pytest.mark.parametrize(
    ("build", "folder", "files", "key", "names"),
    [
        (
            Cifar10,
            "cifar-10-batches-py",
            [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"],
            "labels",
            "label_names",
        ),
        (Cifar100, "cifar-100-python", ["train", "test", "meta"], "fine_labels", "fine_label_names"),
    ],
)
def test_cifar_reads_the_published_files(
    build, folder: str, files: list[str], key: str, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files in the published layout; torchvision's checksums are taken as right."""
    (tmp_path / folder).mkdir()
    pixels = {}
    for number, name in enumerate(files[:-1]):
        pixels[name] = np.random.default_rng(number).integers(0, 256, (3, 3072), dtype=np.uint8)
        (tmp_path / folder / name).write_bytes(pickle.dumps({"data": pixels[name], key: [0, 1, 1]}))
    (tmp_path / folder / files[-1]).write_bytes(pickle.dumps({names: ["cat", "dog"]}))
    monkeypatch.setattr(torchvision_cifar, "check_integrity", lambda *_: True)

    data = build(root=tmp_path, augment=False)
    data.prepare_data()
    data.setup()
    assert (data.class_names, data.num_classes, data.image_size) == (["cat", "dog"], 2, (32, 32))
    assert len(data.opened.train.labels) == 3 * len(files[:-2])
    images, labels = next(iter(data.test_dataloader()))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    raw = torch.from_numpy(pixels[files[-2]]).view(3, 3, 32, 32)
    assert torch.equal(((images * std + mean) * 255).round().to(torch.uint8), raw)
    assert labels.tolist() == [0, 1, 1]


def test_shapes_gives_the_drawings() -> None:
    data = Shapes(train_size=30, test_size=20, data_seed=4, batch_size=10)
    data.setup("fit")
    assert (data.class_names, data.image_size) == (list(CLASS_NAMES), (32, 32))
    assert (data.mean, data.std) == (MEAN, STD)
    assert len(data.train_dataloader()) == 3
    test, train = draw_shapes(20, seed=9), draw_shapes(30, seed=8)
    images, labels = next(iter(data.test_dataloader()))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(images, (test.images / 255 - mean) / std)
    assert torch.equal(labels, test.labels)
    source = data.opened.train
    assert isinstance(source, ArraySource)
    np.testing.assert_array_equal(source.images, train.images)


@pytest.mark.parametrize("name", ["train_size", "test_size"])
def test_shapes_without_images_are_refused(name: str) -> None:
    sizes: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"expected {name} to be an integer >= 1, got 0"):
        Shapes(**sizes)


def test_hydra_builds_a_module_with_lists_and_a_nested_view() -> None:
    node = yaml.safe_load((CONF / "shapes.yaml").read_text())
    del node["defaults"]
    node.update(
        {"mean": [0.5, 0.4, 0.3], "augment": {"_target_": "supermix_pl.experiments.data.CropFlip", "padding": 2}}
    )
    data = instantiate(OmegaConf.create(node))
    assert isinstance(data, Shapes)
    assert (data.mean, data.augment) == ((0.5, 0.4, 0.3), CropFlip(padding=2))
    with pytest.raises(InstantiationException, match="unexpected keyword argument 'batchsize'"):
        instantiate(OmegaConf.create(node), batchsize=3)


def test_configs_repeat_the_defaults_of_the_common_arguments() -> None:
    parameters = inspect.signature(ImageDataModule.__init__).parameters
    for key, value in yaml.safe_load((CONF / "base.yaml").read_text()).items():
        assert key in parameters
        assert key == "seed" or value == parameters[key].default
