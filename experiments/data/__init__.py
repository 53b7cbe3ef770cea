"""Data modules of the paper's experiments, and the resumable loader that they share."""

from supermix_pl.experiments.data.augment import CropFlip
from supermix_pl.experiments.data.cifar import Cifar10, Cifar100
from supermix_pl.experiments.data.datamodule import ImageDataModule
from supermix_pl.experiments.data.image_folder import ImageFolder
from supermix_pl.experiments.data.loader import ResumableLoader
from supermix_pl.experiments.data.parquet import Parquet
from supermix_pl.experiments.data.shapes_module import Shapes
from supermix_pl.experiments.data.source import ArraySource, BatchSource

__all__ = [
    "ArraySource",
    "BatchSource",
    "Cifar10",
    "Cifar100",
    "CropFlip",
    "ImageDataModule",
    "ImageFolder",
    "Parquet",
    "ResumableLoader",
    "Shapes",
]
