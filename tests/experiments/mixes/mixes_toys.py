"""A data set of noise, a teacher and a mixer that are made in no time, and the folder of mixes that they give."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.data.datamodule import Opened
from supermix_pl.experiments.mixes import Plan, generate
from supermix_pl.mixing import Mixer
from supermix_pl.mixing.views import Transform

NUM_TRAIN = 11
SIZE = 8
CLASSES = ["a", "b", "c"]
MIXER = SuperMix(mask_size=4, max_steps=3)
PLAN = Plan(size=25, batch_size=4, seed=3)  # the last batch is cut


class Noise(ImageDataModule):
    def __init__(self, *, num_train: int = NUM_TRAIN, size: int = SIZE, pixels: int = 0, **common: Any) -> None:
        super().__init__(**common)
        self.num_images, self.size, self.pixels = num_train, size, pixels

    def open_data(self) -> Opened:
        generator = np.random.default_rng(self.pixels)
        images = generator.integers(0, 256, (self.num_images, 3, self.size, self.size), dtype=np.uint8)
        part = images, np.arange(self.num_images) % len(CLASSES)
        return self._opened_arrays(
            train=part, test=part, class_names=CLASSES, mean=(0.5, 0.4, 0.45), std=(0.25, 0.2, 0.3)
        )


def data_of(**options: Any) -> Noise:
    data = Noise(**{"batch_size": 4, **options})
    data.setup()
    return data


def network(num_classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, num_classes))


def teacher_of(seed: int = 0, **options: Any) -> FrozenTeacher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FrozenTeacher(network(), **options)


def make(folder: Path, mixer: Mixer = MIXER, plan: Plan = PLAN, view: Transform | None = None, **options: Any) -> None:
    generate(folder, data_of(**options), teacher_of(), mixer, plan, view=view)


def shard_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("mixes-*.safetensors"))}
