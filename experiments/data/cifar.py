"""CIFAR-10 and CIFAR-100, downloaded by torchvision."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from torchvision import datasets

from supermix_pl.experiments.data.datamodule import ImageDataModule, LabelledImages, Opened, Statistics


@dataclass(kw_only=True, eq=False, repr=False)
class _Cifar(ImageDataModule):
    dataset: ClassVar[type[datasets.CIFAR10]]
    statistics: ClassVar[tuple[Statistics, Statistics]]

    root: str | Path  # folder of the data; what is missing there is downloaded

    def prepare_data(self) -> None:
        """Downloads the data, in one process.

        Raises:
            OSError: If they are neither in the folder nor to be had.
        """
        try:
            self.dataset(self.root, download=True)
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"expected {self.dataset.__name__} in {self.root}, or a way to download it, got: {error}. Put "
                f"{self.dataset.filename} from {self.dataset.url} there, or use data=parquet data.folder=..."
            ) from error

    def open_data(self) -> Opened:
        parts = [self.dataset(self.root, train=train) for train in (True, False)]
        train, test = (_arrays(part) for part in parts)
        mean, std = self.statistics
        return self._opened_arrays(train=train, test=test, class_names=list(parts[0].classes), mean=mean, std=std)


class Cifar10(_Cifar):
    """CIFAR-10, 50 000 training and 10 000 test images of 32x32, normalised with its usual statistics."""

    dataset = datasets.CIFAR10
    statistics = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Cifar100(_Cifar):
    """CIFAR-100, 50 000 training and 10 000 test images of 32x32, normalised as the distillation literature does."""

    dataset = datasets.CIFAR100
    statistics = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def _arrays(part: datasets.CIFAR10) -> LabelledImages:
    return np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.asarray(part.targets, dtype=np.int64)
