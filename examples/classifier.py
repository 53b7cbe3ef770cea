"""A plain classifier and the callback: `python examples/classifier.py`.

The module knows nothing of mixing. It is trained once without mixes; what comes out is the frozen teacher of the second
run, as in the paper. The callback is all that the second run adds: mixes, and the distillation loss beside the module's
own. Images are drawn here: coloured discs on noise, the class is the colour.
"""

import argparse

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from supermix_pl import FrozenTeacher, SuperMixCallback

COLOURS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]])
SIDE = 16


def discs(count: int, seed: int) -> TensorDataset:
    """Draw images (count, 3, 16, 16) in [0, 1] and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(COLOURS), (count,), generator=generator)
    centres = 4 + 8 * torch.rand(count, 2, 1, 1, generator=generator)
    grid = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"))
    inside = ((grid - centres) ** 2).sum(dim=1, keepdim=True) < 12
    noise = 0.5 * torch.rand(count, 3, SIDE, SIDE, generator=generator)
    return TensorDataset(torch.where(inside, COLOURS[labels][:, :, None, None], noise), labels)


class Classifier(pl.LightningModule):
    """A small convolutional network, trained with the cross-entropy."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, len(COLOURS)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        return self.network(images)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Learn from a batch, whoever has made it."""
        images, labels = batch
        loss = cross_entropy(self(images), labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Measure the accuracy on natural images."""
        images, labels = batch
        self.log("accuracy", (self(images).argmax(dim=1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Use Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def fit(epochs: int, *callbacks: pl.Callback) -> Classifier:
    """Train a classifier and print its accuracy."""
    module = Classifier()
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=list(callbacks), logger=False, enable_checkpointing=False, log_every_n_steps=1
    )
    trainer.fit(module, DataLoader(discs(256, 0), 32, shuffle=True), DataLoader(discs(256, 1), 64))
    print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
    return module


def main() -> None:
    """Train twice: plain, then with mixes that the first model supervises."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    epochs = parser.parse_args().epochs
    pl.seed_everything(0)
    teacher = FrozenTeacher(fit(epochs).network)
    fit(epochs, SuperMixCallback(teacher, distillation_weight=0.9))


if __name__ == "__main__":
    main()
