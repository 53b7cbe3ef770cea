"""LightningCLI with mixing: `python examples/cli.py fit --config examples/cli.yaml`.

Mixing has a section of its own in the YAML file and on the command line (`--mixing.k=3`). LightningCLI needs
`pip install ".[cli]"`. Images are drawn here: bright stripes on noise, the class is their direction.
"""

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from supermix_pl import SuperMix, SuperMixCallback

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
        """Give other images."""
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
        """Give logits."""
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


class Mixing(SuperMixCallback):
    """SuperMix with the arguments that this project turns; the teacher is the module's own moving average."""

    def __init__(self, k: int = 2, max_steps: int = 20, start_epoch: int = 2) -> None:
        mixer = SuperMix.fast(k=k, max_steps=max_steps)
        super().__init__("ema", mixer, engine="stream", start_epoch=start_epoch, log="prog_bar")


class CommandLine(LightningCLI):
    """Lightning's command line, with mixing."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add `mixing`, a callback of every run."""
        parser.add_lightning_class_args(Mixing, "mixing")


def main() -> None:
    """Hand over to the command line."""
    CommandLine(Classifier, Stripes, save_config_callback=None, seed_everything_default=0)


if __name__ == "__main__":
    main()
