"""Few images and a good teacher: `python examples/few_images.py [FOLDER]`.

The teacher has seen all training images, the students get a few of each class. One learns from labels alone, one also
from the teacher, and one from the teacher on mixes as well, which is what we recommend: all three see as many images.
FOLDER holds `train/<class>/` and `val/<class>/`; without one the images are shapes that our experiments draw.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, RandomSampler, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from supermix_pl import FrozenTeacher, StreamEngine, SuperMixCallback
from supermix_pl.experiments.data.shapes import draw_shapes
from supermix_pl.transforms import RandomCropFlip

BATCH = 64
OPTIONS = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "log_every_n_steps": 1}


def shapes(count: int, seed: int) -> TensorDataset:
    """Draw images (count, 3, 32, 32) in [-1, 1] and their labels."""
    drawn = draw_shapes(count, seed=seed)
    return TensorDataset(drawn.images / 127.5 - 1, drawn.labels)


def files(folder: Path, size: int) -> TensorDataset:
    """Read images (n, 3, size, size) in [-1, 1] and their labels; all of them are kept in memory."""
    transforms = [v2.Resize(size), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    images, labels = zip(*ImageFolder(folder, v2.Compose(transforms)), strict=True)
    return TensorDataset(2 * torch.stack(images) - 1, torch.tensor(labels))


def few(data: TensorDataset, per_class: int) -> TensorDataset:
    """Keep the first images of each class."""
    images, labels = data.tensors
    kept = torch.cat([(labels == each).nonzero()[:per_class, 0] for each in labels.unique()])
    return TensorDataset(images[kept], labels[kept])


class Classifier(pl.LightningModule):
    """A small convolutional network.

    Args:
        num_classes: How many it tells apart.
        width: Channels of its first layer.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for ins, outs, stride in ((3, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2)):
            for channels, step in ((ins, stride), (outs, 1)):
                layers += [nn.Conv2d(channels, outs, 3, step, padding=1), nn.BatchNorm2d(outs), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, num_classes))

    def on_after_batch_transfer(self, batch: Sequence[Tensor], dataloader_idx: int) -> Sequence[Tensor]:
        """Crop and flip natural images; mixes are cropped and flipped where they are made."""
        images, labels = batch
        return [RandomCropFlip()(images) if self.trainer.training else images, labels]

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Learn from the labels; the rest is the callback's."""
        images, labels = batch
        return cross_entropy(self.network(images), labels)

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Measure the accuracy."""
        images, labels = batch
        self.log("accuracy", (self.network(images).argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self) -> Any:
        """Use Adam, and let its rate fall to zero."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=5e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 5e-3, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(
    name: str,
    module: Classifier,
    data: TensorDataset,
    test: TensorDataset,
    steps: int,
    batch: int,
    *callbacks: pl.Callback,
) -> Classifier:
    """Train for a number of steps, and print what came of it."""
    trainer = pl.Trainer(max_epochs=1, num_sanity_val_steps=0, callbacks=list(callbacks), **OPTIONS)
    drawn = RandomSampler(data, replacement=True, num_samples=steps * batch)
    trainer.fit(module, DataLoader(data, batch, sampler=drawn), DataLoader(test, 250))
    shown = {key: f"{float(value):.3f}" for key, value in trainer.callback_metrics.items()}
    print(name, shown["accuracy"], *(f"{key} {shown[key]}" for key in ("supermix/holds",) if key in shown))
    return module


def main() -> None:
    """Train a teacher on all images, and three students on a few."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--per-class", type=int, default=20, help="images of each class that the students get")
    parser.add_argument("--steps", type=int, default=600, help="of teacher and students, in batches of 64")
    parser.add_argument("--train-size", type=int, default=5000, help="of the drawn images")
    parser.add_argument("--size", type=int, default=32, help="side of images from FOLDER")
    options = parser.parse_args()
    if options.folder is None:
        data, test = shapes(options.train_size, 0), shapes(1000, 1)
    else:
        data, test = (files(options.folder / part, options.size) for part in ("train", "val"))
    num_classes = int(data.tensors[1].max()) + 1
    subset = few(data, options.per_class)
    pl.seed_everything(0)
    knowing = fit("teacher", Classifier(num_classes, 24), data, test, options.steps, BATCH)
    fit("plain", Classifier(num_classes, 8), subset, test, options.steps, BATCH)
    teacher = FrozenTeacher(knowing.network)
    natural = SuperMixCallback(teacher, distillation_weight=0.9, probability=0)  # no mixes
    fit("distilled", Classifier(num_classes, 8), subset, test, options.steps, BATCH, natural)
    mixing = SuperMixCallback(teacher, distillation_weight=0.9, engine=StreamEngine(sources=subset.tensors[0]))
    fit("distilled, with mixes", Classifier(num_classes, 8), subset, test, options.steps, BATCH // 2, mixing)


if __name__ == "__main__":
    main()
