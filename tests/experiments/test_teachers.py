"""Where teachers come from, what tells them apart, and how good they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.data.datamodule import Opened
from supermix_pl.experiments.shared.digests import digest_images, digest_teacher
from supermix_pl.experiments.tasks import Classification
from supermix_pl.experiments.tasks.schedules import constant
from supermix_pl.experiments.teachers import load_teacher, untrained_teacher
from tests.experiments.mixes.mixes_toys import data_of, network, teacher_of
from tests.integration.toys import TRAINER


def test_a_digest_tells_teachers_apart_by_weights_and_inputs() -> None:
    halves: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    teachers = [
        teacher_of(),
        teacher_of(1),
        teacher_of(**halves),
        teacher_of(input_mean=(0.5,) * 3, input_std=(0.5,) * 3),
        teacher_of(image_size=16),
        teacher_of(dtype="bfloat16"),
        FrozenTeacher(teacher_of().module.bfloat16()),
    ]
    digests = [digest_teacher(teacher) for teacher in teachers]
    assert len(set(digests)) == len(digests)
    assert digest_teacher(teacher_of(**halves, input_mean=(0.5,) * 3, input_std=(0.5,) * 3)) == digests[0]
    teachers[0](torch.zeros(1, 3, 8, 8))  # using it changes nothing
    assert digest_teacher(teachers[0]) == digests[0] == digest_teacher(teacher_of())


def test_a_digest_tells_weights_apart_that_changed_their_names() -> None:
    renamed = nn.Sequential(nn.Identity(), *teacher_of().module.children())
    assert digest_teacher(FrozenTeacher(renamed)) != digest_teacher(teacher_of())


def test_a_digest_of_images_sees_samples_labels_and_pixels() -> None:
    def seen(**options: Any) -> str:
        return digest_images(*data_of(**options).training_samples())

    options = [{}, {"pixels": 1}, {"images_per_class": 2}, {"num_train": 12}, {"std": (0.5, 0.5, 0.5)}, {"size": 4}]
    assert len({seen(**option) for option in options}) == len(options)
    assert seen(seed=3, batch_size=2, augment=False) == seen()


def test_options_of_the_passes_reach_the_teacher(tmp_path: Path) -> None:
    torch.save({"model": teacher_of().module.state_dict()}, tmp_path / "teacher.pth")
    options: dict[str, Any] = {"dtype": "bfloat16", "fold": False, "channels_last": True, "compile": True}
    teacher = load_teacher(data_of(), network=network, checkpoint=tmp_path / "teacher.pth", **options)
    assert teacher.autocast_dtype == torch.bfloat16
    assert (teacher.channels_last, teacher.compile) == (True, True)
    assert teacher.network(torch.zeros(1, 3, 8, 8)) is teacher.module
    assert digest_teacher(teacher) == digest_teacher(
        load_teacher(data_of(), network=network, checkpoint=tmp_path / "teacher.pth", dtype="bfloat16")
    )


def test_an_untrained_teacher_is_one_for_all_runs() -> None:
    torch.manual_seed(1)
    first = untrained_teacher(data_of(), network=network)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)  # it took nothing from the run's own chance
    assert digest_teacher(untrained_teacher(data_of(), network=network)) == digest_teacher(first)
    assert first(torch.zeros(2, 3, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize("checkpoint", [None, "there/is/none.pth"])
def test_a_missing_checkpoint_is_named_with_what_to_do(checkpoint: str | None) -> None:
    with pytest.raises(ValueError, match=rf"in teacher\.checkpoint, got {checkpoint}: train one with supermix-train"):
        load_teacher(data_of(), network=network, checkpoint=checkpoint)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(network(5).state_dict(), tmp_path / "five.pth")
    with pytest.raises(ValueError, match=r"1\.weight: expected \(3, 192\), got \(5, 192\)"):
        load_teacher(data_of(), network=network, checkpoint=tmp_path / "five.pth")


def test_a_loaded_teacher_takes_batches_of_the_data(tmp_path: Path) -> None:
    torch.save({"model": teacher_of().module.state_dict()}, tmp_path / "teacher.pth")
    data = data_of()
    images, _ = next(iter(data.test_dataloader()))
    own = load_teacher(data, network=network, checkpoint=tmp_path / "teacher.pth")
    torch.testing.assert_close(own(images), teacher_of()(images), atol=1e-5, rtol=1e-5)
    other = load_teacher(data, network=network, checkpoint=tmp_path / "teacher.pth", mean=(0.0,) * 3, std=(1.0,) * 3)
    assert data.mean is not None
    assert data.std is not None
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    torch.testing.assert_close(other(images), teacher_of()(images * std + mean), atol=1e-5, rtol=1e-5)


class Ranking(nn.Module):
    """Puts an image's own class, which its brightness tells, on a rank counted from 0."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = nn.Parameter(torch.tensor(float(rank)))

    def forward(self, images: Tensor) -> Tensor:
        own = images.mean(dim=(1, 2, 3)).mul(10).round().long()
        classes = (torch.arange(10) - own[:, None] + int(self.rank)) % 10
        return -classes.float()


class Grey(ImageDataModule):
    def open_data(self) -> Opened:
        labels = np.arange(20) % 10
        images = np.broadcast_to((labels * 25.5).round().astype(np.uint8)[:, None, None, None], (20, 3, 4, 4)).copy()
        part = images, labels
        names = [str(number) for number in range(10)]
        return self._opened_arrays(train=part, test=part, class_names=names, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def grey() -> Grey:
    data = Grey(eval_batch_size=6)
    data.setup()
    return data


@pytest.mark.parametrize(("rank", "first", "fifth"), [(0, 1.0, 1.0), (4, 0.0, 1.0), (5, 0.0, 0.0)])
def test_the_accuracy_of_a_teacher(rank: int, first: float, fifth: float) -> None:
    """A test of its student measures it too, with a student that is always right."""
    task = Classification(
        Ranking(0), num_classes=10, optimizer=SGD, scheduler=constant, reference=FrozenTeacher(Ranking(rank))
    )
    (found,) = pl.Trainer(**TRAINER).test(task, grey(), verbose=False)
    assert found["test/accuracy"] == 1.0
    assert (found["teacher/accuracy"], found["teacher/accuracy_top5"]) == (first, fifth)
    assert found["test/teacher_agreement"] == first
