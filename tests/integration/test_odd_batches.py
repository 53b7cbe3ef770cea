"""Batches that are small, odd, of one class or empty of others, in the middle of a fit."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from supermix_pl import CutMix, MixUp, SuperMix
from supermix_pl.mixing.sampling import Pairing
from tests.integration.toys import (
    MIXER,
    Student,
    Teacher,
    assert_extended,
    loader,
    loader_of,
    make_callback,
    make_trainer,
    natural_data,
)


def fit(folder: Path, data: Any, **options: Any) -> tuple[Student, list[str]]:
    """Fit; give the student, and what was said about k."""
    student = Student()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_trainer(folder, make_callback(**options)).fit(student, data)
    return student, [str(warning.message) for warning in caught if "is smaller than k" in str(warning.message)]


def test_last_odd_batch(tmp_path: Path) -> None:
    student, said = fit(tmp_path, loader(11))
    assert [len(images) for images in student.images] == [8, 8, 6]
    for step, batch in enumerate(loader(11)):
        assert_extended(student, step, *batch)
    assert said == []


@pytest.mark.parametrize("mixer", [MIXER, MixUp(), CutMix()])
def test_last_batch_of_one(tmp_path: Path, mixer: Any) -> None:
    student, said = fit(tmp_path, loader(9), mixer=mixer)
    assert [len(images) for images in student.images] == [8, 8, 2]
    mix = student.mixes[-1]
    assert mix is not None
    image = list(loader(9))[-1][0]
    assert mix.source_indices.tolist() == [[0]]
    assert mix.mix_weights.tolist() == [[1.0]]
    torch.testing.assert_close(student.images[-1], torch.cat([image, image]))
    assert student.labels[-1].tolist() == [2, 2]
    assert any("a batch of 1 images is smaller than k=2: its sets have 1 sources" in message for message in said)


@pytest.mark.parametrize("pairing", ["shift", "random", "distinct"])
def test_last_batch_smaller_than_k(tmp_path: Path, pairing: Pairing) -> None:
    student, said = fit(tmp_path, loader(10), mixer=SuperMix(k=3, mask_size=4, max_steps=3, pairing=pairing))
    assert [len(images) for images in student.images] == [8, 8, 4]
    sources = [mix.source_indices for mix in student.mixes if mix is not None]
    assert [len(rows[0]) for rows in sources] == [3, 3, 2]
    assert sources[-1].sort(dim=1).values.tolist() == [[0, 1], [0, 1]]
    assert len(set(said)) == 1


@pytest.mark.parametrize("targets", ["soft", "pairs"])
def test_labels_of_a_batch_smaller_than_k(tmp_path: Path, targets: str) -> None:
    student, _ = fit(tmp_path, loader(2), mixer=SuperMix(k=3, mask_size=4, max_steps=3), targets=targets)
    labels = student.labels[0]
    if targets == "soft":
        assert labels.shape == (4, 3)
        torch.testing.assert_close(labels.sum(dim=1), torch.ones(4))
    else:
        assert labels[0].shape == labels[1].shape == (4, 2)
        torch.testing.assert_close(labels[1].sum(dim=1), torch.ones(4))


@pytest.mark.parametrize("pairing", ["shift", "random", "distinct"])
def test_batch_of_one_class(tmp_path: Path, pairing: Pairing) -> None:
    images, labels = natural_data(12)
    mixer = SuperMix(mask_size=4, max_steps=3, pairing=pairing)
    student, _ = fit(tmp_path, loader_of([(images[::3], labels[::3])]), mixer=mixer)
    assert student.labels[0].tolist() == 8 * [0]
    mix = student.mixes[0]
    assert mix is not None
    assert mix.solved.tolist() == 4 * [True]
    torch.testing.assert_close(mix.soft_targets, torch.tensor([[1.0, 0.0, 0.0]]).expand(4, -1))


def test_k_of_one(tmp_path: Path) -> None:
    student, said = fit(tmp_path, loader(8), mixer=SuperMix(k=1, mask_size=4, max_steps=2))
    for step, (images, labels) in enumerate(loader(8)):
        torch.testing.assert_close(student.images[step], torch.cat([images, images]))
        assert torch.equal(student.labels[step], torch.cat([labels, labels]))
    assert said == []


def test_rectangular_images_and_masks(tmp_path: Path) -> None:
    images, labels = natural_data(4)

    class Cropping(Student):
        def loss(self, batch: Any) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(self.layer.bias + batch[0].mean(dim=(2, 3)), batch[1])

    student = Cropping()
    mixer = SuperMix(mask_size=(2, 5), max_steps=3, max_logit_step=1.0)
    make_trainer(tmp_path, make_callback(Teacher(), mixer)).fit(student, loader_of([(images[:, :, :4, :7], labels)]))
    assert_extended(student, 0, images[:, :, :4, :7], labels)
    mix = student.mixes[0]
    assert mix is not None
    assert mix.masks.shape == (4, 2, 4, 7)
