"""Knowledge distillation with the mixin: `python examples/distillation.py`.

A small student learns from a larger teacher, on natural images and on mixes alike: what the teacher sees in a mix is
in its probabilities rather than in its class. The callback has the teacher's logits of every row, so that the loss
needs no second pass. The module brings its mixing along, so that whoever trains it need not know. Images are drawn
here: a bright square, the class is its quadrant.
"""

import argparse

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from supermix_pl import FrozenTeacher, SuperMixCallback, SuperMixMixin
from supermix_pl.losses import distillation_loss

NUM_CLASSES, SIDE = 4, 16


def squares(count: int, seed: int) -> TensorDataset:
    """Draw images (count, 1, 16, 16) in [0, 1] and their labels."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.6 * torch.rand(count, 1, SIDE, SIDE, generator=generator)
    labels = torch.randint(NUM_CLASSES, (count,), generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = (torch.randint(5, (2,), generator=generator) + 8 * torch.tensor(divmod(label, 2))).tolist()
        image[:, row : row + 4, column : column + 4] = 1
    return TensorDataset(images, labels)


def network(width: int) -> nn.Sequential:
    """Build a classifier of a width."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(4),
        nn.Flatten(),
        nn.Linear(16 * width, NUM_CLASSES),
    )


def trained_teacher(epochs: int) -> nn.Module:
    """Fit a teacher; yours comes from a file, see `supermix_pl.checkpoint.load_checkpoint`."""
    module = network(width=16)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(epochs):
        for images, labels in DataLoader(squares(256, 0), 32, shuffle=True):
            optimizer.zero_grad()
            cross_entropy(module(images), labels).backward()
            optimizer.step()
    return module


class Student(SuperMixMixin, pl.LightningModule):
    """Learns from a teacher, and from the mixes that it supervises."""

    def __init__(self, teacher: nn.Module, temperature: float = 4.0) -> None:
        super().__init__()
        self.network = network(width=4)
        self.temperature = temperature
        self.mixing = SuperMixCallback(FrozenTeacher(teacher), label_natural=True)

    def configure_supermix(self) -> SuperMixCallback:
        """Put a mix behind every natural image; the teacher labels both."""
        return self.mixing

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Add the two losses: of the labels, and of the teacher's logits of the same rows."""
        images, labels = batch
        logits = self.network(images)
        taught = self.mixing.teacher_logits
        assert taught is not None  # with label_natural, a row for each image
        distillation = distillation_loss(logits, taught, temperature=self.temperature)
        return 0.1 * cross_entropy(logits, labels) + 0.9 * distillation

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Measure the accuracy."""
        images, labels = batch
        self.log("accuracy", (self.network(images).argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Use Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main() -> None:
    """Fit a teacher, then distil it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    epochs = parser.parse_args().epochs
    pl.seed_everything(0)
    trainer = pl.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False, log_every_n_steps=1)
    student = Student(trained_teacher(epochs))
    trainer.fit(student, DataLoader(squares(256, 0), 32, shuffle=True), DataLoader(squares(256, 1), 64))
    print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
