"""Data modules of the paper's experiments, and the resumable loader that they share."""

from supermix_pl.experiments.data.augment import Augmentation, CropFlip, SmallImageView
from supermix_pl.experiments.data.cifar import Cifar10, Cifar100
from supermix_pl.experiments.data.cutout import Cutout
from supermix_pl.experiments.data.datamodule import ImageDataModule
from supermix_pl.experiments.data.encoded_parquet import EncodedParquet
from supermix_pl.experiments.data.fast_autoaugment import FastAutoAugment
from supermix_pl.experiments.data.image_folder import ImageFolder
from supermix_pl.experiments.data.loader import ResumableLoader
from supermix_pl.experiments.data.mixed_view import MixedRandAugment
from supermix_pl.experiments.data.parquet import HuggingFace, Parquet
from supermix_pl.experiments.data.policies import AutoAugment, RandAugment
from supermix_pl.experiments.data.shapes_module import Shapes
from supermix_pl.experiments.data.source import ArraySource, BatchSource
from supermix_pl.experiments.data.unlabelled import UnlabelledImages
