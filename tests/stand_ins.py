"""What the pages' code blocks take from their reader: a network, a module, data; all tiny."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from supermix_pl.losses import soft_cross_entropy
from tests.integration.toys import NUM_CLASSES, Teacher, loader


class Network(Teacher):
    """A classifier that knows the images of `NaturalData`."""


class NaturalData(pl.LightningDataModule):
    """Batches [images, labels] of noise with a bright channel."""

    class_names = ("red", "green", "blue")

    def train_dataloader(self) -> Any:
        return loader()

    def val_dataloader(self) -> Any:
        return loader(4)


class YourModule(pl.LightningModule):
    """Somebody's module, which ends every fit with its first epoch.

    Args:
        num_classes: How many it tells apart.
    """

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return soft_cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss", soft_cross_entropy(self(batch[0]), batch[1]))

    def on_train_epoch_end(self) -> None:
        self.trainer.should_stop = True

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)
