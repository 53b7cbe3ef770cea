"""Views of the mixes: what the teacher labels is what the student gets, and its look is accounted for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from supermix_pl import MixUp, SuperMixCallback
from supermix_pl.transforms import PerImage, RandomCropFlip
from tests.integration.toys import (
    NUM_CLASSES,
    Student,
    Teacher,
    loader,
    make_callback,
    make_trainer,
    natural_data,
)


def fit(folder: Path, **options: Any) -> tuple[Student, SuperMixCallback]:
    student, callback = Student(), make_callback(**options)
    make_trainer(folder, callback).fit(student, loader(8))
    return student, callback


TRANSFORMS = {
    "crop and flip": RandomCropFlip(padding=2),
    "RandAugment": PerImage(v2.RandAugment(), mean=[0.1] * 3, std=[0.5] * 3),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("mode", ["extend", "replace"])
def test_views_are_labelled_and_accounted(tmp_path: Path, name: str, mode: str) -> None:
    bare, _ = fit(tmp_path, mode=mode)
    student, callback = fit(tmp_path, mode=mode, mixed_transform=TRANSFORMS[name])
    for step, (images, _) in enumerate(loader(8)):
        plain, mix = bare.mixes[step], student.mixes[step]
        assert plain is not None
        assert mix is not None
        assert mix.teacher_logits is not None
        assert plain.teacher_logits is not None
        assert mix.images.shape == plain.images.shape
        assert not torch.equal(mix.images, plain.images)
        assert torch.equal(mix.masks, plain.masks)  # the same mixes before the view
        assert mix.teacher_forwards == plain.teacher_forwards + len(images)
        assert callback.teacher is not None
        logits = callback.teacher.module(mix.images)
        torch.testing.assert_close(mix.teacher_logits, logits)
        assert torch.equal(student.images[step][-4:], mix.images)
        assert torch.equal(student.labels[step][-4:], logits.argmax(dim=1))
        assert not torch.equal(logits, plain.teacher_logits)
        if mode == "extend":
            assert torch.equal(student.images[step][:4], images)  # the natural ones are the user's own affair


def test_views_differ_from_image_to_image_and_batch_to_batch(tmp_path: Path) -> None:
    """One draw an image: the same image four times has different views."""

    class Same(Student):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            image = torch.linspace(0, 1, 64).view(1, 1, 8, 8).expand(4, 3, 8, 8)
            return [image, batch[1]]

    student = Same()
    callback = SuperMixCallback(
        Teacher(), MixUp(), mode="replace", mixed_transform=RandomCropFlip(padding=2), targets="soft"
    )
    make_trainer(tmp_path, callback).fit(student, loader(16))
    views = torch.cat(student.images)
    assert len(views.flatten(1).unique(dim=0)) >= 8


def test_view_that_changes_the_size_in_place_of_the_batch(tmp_path: Path) -> None:
    class Pooling(Student):
        def loss(self, batch: Any) -> Tensor:
            return torch.nn.functional.cross_entropy(self.layer.bias + batch[0].mean(dim=(2, 3)), batch[1])

    def crop(images: Tensor) -> Tensor:
        return images[:, :, :6, :5]

    student = Pooling()
    make_trainer(tmp_path, make_callback(mode="replace", mixed_transform=crop)).fit(student, loader(4))
    assert student.images[0].shape == (4, 3, 6, 5)
    with pytest.raises(ValueError, match=r"keep the shape \(3, 8, 8\) of the images in mode=\"extend\""):
        make_trainer(tmp_path, make_callback(mixed_transform=crop)).fit(Pooling(), loader(4))


@pytest.mark.parametrize("wrong", [lambda images: images[:2], lambda images: images[0]])
def test_transform_that_loses_images(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"expected mixed_transform to give 4 images \(b, c, h, w\), got"):
        fit(tmp_path, mixed_transform=wrong)


def test_transform_of_blind_mixes_needs_no_teacher(tmp_path: Path) -> None:
    student = Student()
    mixer = MixUp(num_classes=NUM_CLASSES)
    callback = SuperMixCallback(None, mixer, engine="batch", targets="soft", mixed_transform=RandomCropFlip(padding=2))
    make_trainer(tmp_path, callback).fit(student, loader(4))
    mix = student.mixes[0]
    assert mix is not None
    assert mix.teacher_forwards == 0
    mixed = (mix.masks.unsqueeze(2) * natural_data(4)[0][mix.source_indices]).sum(dim=1)
    assert not torch.allclose(mix.images, mixed, atol=0.05)
    assert torch.equal(student.images[0][4:], mix.images)


def test_soft_labels_are_those_of_the_sources_under_any_view(tmp_path: Path) -> None:
    bare, _ = fit(tmp_path, targets="soft")
    viewed, _ = fit(tmp_path, targets="soft", mixed_transform=RandomCropFlip(padding=2))
    assert torch.equal(bare.labels[0], viewed.labels[0])
    assert not torch.equal(bare.images[0], viewed.images[0])


def test_half_precision_and_memory_format_survive_the_view(tmp_path: Path) -> None:
    class ChannelsLast(Student):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [batch[0].to(memory_format=torch.channels_last), batch[1]]

    student = ChannelsLast()
    callback = make_callback(mode="replace", mixed_transform=RandomCropFlip(padding=2))
    make_trainer(tmp_path, callback, precision="bf16-true").fit(student, loader(4))
    assert student.images[0].dtype == torch.bfloat16
    assert student.images[0].is_contiguous(memory_format=torch.channels_last)
