"""Data modules of the paper's experiments, and the resumable loader that they share."""

from supermix_pl.experiments.data.augment import Augmentation, CropFlip, Cutout, SmallImageView
from supermix_pl.experiments.data.cifar import Cifar10, Cifar100
from supermix_pl.experiments.data.crops import ImageFolder
from supermix_pl.experiments.data.datamodule import ImageDataModule
from supermix_pl.experiments.data.fast_autoaugment import FastAutoAugment
from supermix_pl.experiments.data.loader import ResumableLoader
from supermix_pl.experiments.data.parquet import EncodedParquet, HuggingFace, Parquet
from supermix_pl.experiments.data.policies import AutoAugment, RandAugment, mixed_rand_augment
from supermix_pl.experiments.data.shapes import Shapes
from supermix_pl.experiments.data.source import ArraySource, BatchSource
from supermix_pl.experiments.data.unlabelled import unlabelled_images
