"""LightningCLI with mixing: `python examples/cli.py fit --config examples/cli.yaml`.

The callback stands in the YAML file like any other; nothing here knows of it. On the command line it is
`--trainer.callbacks+=supermix_pl.SuperMixCallback --trainer.callbacks.teacher=first.ckpt`. LightningCLI needs
`pip install ".[cli]"`. Images are drawn here: bright stripes on noise, the class is their direction.
"""

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningCLI
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

NUM_CLASSES, SIDE = 3, 16


def stripes(count: int, seed: int) -> TensorDataset:
    """Draw images (count, 1, 16, 16) in [0, 1] and their labels: rows, columns, diagonals."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(NUM_CLASSES, (count,), generator=generator)
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    positions = torch.stack([row, column, row + column])[labels] + torch.randint(4, (count, 1, 1), generator=generator)
    noise = 0.6 * torch.rand(count, SIDE, SIDE, generator=generator)
    return TensorDataset(torch.where(positions % 4 < 2, noise + 0.4, noise)[:, None], labels)


class Stripes(pl.LightningDataModule):
    """Batches [images, labels]."""

    def __init__(self, count: int = 256, batch_size: int = 32) -> None:
        super().__init__()
        self.count, self.batch_size = count, batch_size

    def train_dataloader(self) -> DataLoader:
        """Shuffle the training images."""
        return DataLoader(stripes(self.count, 0), self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Return other images."""
        return DataLoader(stripes(self.count, 1), self.batch_size)


class Classifier(pl.LightningModule):
    """A small convolutional network."""

    def __init__(self, width: int = 8, learning_rate: float = 1e-2) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.network = nn.Sequential(
            nn.Conv2d(1, width, 5, padding=2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, NUM_CLASSES),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        return self.network(images)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Learn from a batch."""
        return cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Measure the accuracy."""
        self.log("accuracy", (self(batch[0]).argmax(dim=1) == batch[1]).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Use Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


def main() -> None:
    """Hand over to the command line."""
    LightningCLI(Classifier, Stripes, seed_everything_default=0, save_config_kwargs={"overwrite": True})


if __name__ == "__main__":
    main()
