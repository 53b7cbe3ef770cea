"""Bright-channel images, a teacher that knows them, students that keep what they saw, and short-cuts to a Trainer."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from supermix_pl import MixedBatch, SuperMix, SuperMixCallback
from supermix_pl.losses import soft_cross_entropy

NUM_CLASSES = 3
SIDE = 8
MIXER = SuperMix(k=2, mask_size=4, min_steps=2, max_steps=4, max_logit_step=1.0, pairing="random")
TRAINER = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def natural_data(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise in which the channel of the class is bright; the labels go round the classes."""
    labels = torch.arange(count) % NUM_CLASSES
    images = 0.2 * torch.rand(count, NUM_CLASSES, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    images[torch.arange(count), labels] += 0.7
    return images, labels


def loader(count: int = 12, batch_size: int = 4, **options: Any) -> DataLoader:
    """Batches [images, labels] in order."""
    return DataLoader(TensorDataset(*natural_data(count)), batch_size, **options)


def loader_of(batches: Iterable[Any]) -> DataLoader:
    """Batches just as they are given."""
    return DataLoader(list(batches), batch_size=None, collate_fn=lambda batch: batch)  # pyright: ignore[reportArgumentType]


class Teacher(nn.Module):
    """Knows the bright channel; has buffers that training would change and a dropout that it would turn on."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(NUM_CLASSES)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(NUM_CLASSES, NUM_CLASSES)
        with torch.no_grad():
            self.head.weight.copy_(20 * torch.eye(NUM_CLASSES))
            self.head.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.norm(images)).mean(dim=(2, 3)))


class IgnorantTeacher(nn.Module):
    """Sees class 0 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([9.0, 1.0, 0.0]))

    def forward(self, images: Tensor) -> Tensor:
        return self.weight + 1e-3 * images.mean(dim=(2, 3))


class StubbornTeacher(nn.Module):
    """Knows the natural images, but sees a class of its own in whatever lies between them: no mix of two is solved."""

    def forward(self, images: Tensor) -> Tensor:
        bright = 20 * images.mean(dim=(2, 3))
        return torch.cat([bright, torch.full_like(bright[:, :1], 12.0)], dim=1)


class Steps:
    """A student's methods, for the LightningModule of either package.

    Args:
        input_of: Where the images are in its batches.
        labels_of: Where the labels are.
        optimizer: Makes the optimizer of the parameters.
        num_classes: How many it tells apart.
    """

    trainer: Any
    parameters: Any

    def __init__(
        self,
        input_of: Callable[[Any], Tensor] = lambda batch: batch[0],
        labels_of: Callable[[Any], Any] = lambda batch: batch[1],
        optimizer: Callable[..., torch.optim.Optimizer] = lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        num_classes: int = NUM_CLASSES,
    ) -> None:
        super().__init__()
        self.layer = nn.Linear(NUM_CLASSES * SIDE * SIDE, num_classes)
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-0.1, 0.1, self.layer.weight.numel()).view_as(self.layer.weight))
            self.layer.bias.zero_()
        self.input_of, self.labels_of, self.optimizer = input_of, labels_of, optimizer
        self.batches: list[Any] = []
        self.mixes: list[MixedBatch | None] = []

    @property
    def images(self) -> list[Tensor]:
        """The images of every training step."""
        return [self.input_of(batch) for batch in self.batches]

    @property
    def labels(self) -> list[Any]:
        """The labels of every training step."""
        return [self.labels_of(batch) for batch in self.batches]

    def keep(self, batch: Any) -> None:
        self.batches.append(batch)
        callbacks = (callback for callback in self.trainer.callbacks if isinstance(callback, SuperMixCallback))
        self.mixes.append(next((callback.mix for callback in callbacks), None))

    def loss(self, batch: Any) -> Tensor:
        return soft_cross_entropy(self.layer(self.input_of(batch).flatten(1)), self.labels_of(batch))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.keep(batch)
        return self.loss(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())


class Student(Steps, pl.LightningModule):  # pyright: ignore[reportIncompatibleMethodOverride]
    pass


class UnifiedStudent(Steps, lightning.pytorch.LightningModule):  # pyright: ignore[reportIncompatibleMethodOverride]
    pass


def make_callback(
    teacher: Any = None, mixer: Any = MIXER, *, engine: Any = "batch", **options: Any
) -> SuperMixCallback:
    """Every step has mixes of its own batch, solved to the end, unless another engine is asked for."""
    return SuperMixCallback(teacher or Teacher(), mixer, engine=engine, **options)


def make_trainer(folder: Path, *callbacks: Any, package: Any = pl, **options: Any) -> Any:
    return package.Trainer(
        **{**TRAINER, "max_epochs": 1, "default_root_dir": folder, "callbacks": list(callbacks), **options}
    )


def weights(module: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def assert_same_tensors(values: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert values.keys() == expected.keys()
    for name, value in values.items():
        assert torch.equal(value, expected[name]), name


def assert_mix_of(mix: MixedBatch | None, images: Tensor) -> None:
    """A real mix of these images, in order: more than one source each, and what the masks say."""
    assert mix is not None
    assert torch.equal(mix.source_indices[:, 0], torch.arange(len(images)))
    expected = (mix.masks.unsqueeze(2) * images[mix.source_indices]).sum(dim=1).to(images.dtype)
    tolerance = 1e-2 if images.dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(mix.images, expected, atol=tolerance, rtol=tolerance)
    assert not torch.allclose(mix.images, images, atol=0.05)


def assert_extended(student: Any, step: int, images: Tensor, labels: Tensor) -> None:
    """The step had these natural images and labels, then their mixes with the teacher's classes."""
    mix = student.mixes[step]
    assert_mix_of(mix, images)
    assert torch.equal(student.images[step], torch.cat([images, mix.images]))
    assert torch.equal(student.labels[step], torch.cat([labels, mix.teacher_logits.argmax(dim=1)]))
