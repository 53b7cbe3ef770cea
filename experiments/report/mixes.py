"""Make mixes with the sweep's own mixers, from its data and teacher, as pictures of a few kilobytes."""

import base64
import copy
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from supermix_pl import FrozenTeacher, MixedBatch
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.shared.runs.identity import target
from supermix_pl.pictures.tensors import denormalize

PNG = "data:image/png;base64,"
_BATCH = 16
Opener = Callable[[DictConfig], tuple[ImageDataModule, FrozenTeacher]]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A picture and what stands under it.

    Args:
        picture: PNG as a data URI.
        lines: Its caption.
    """

    picture: str
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ExampleMixes:
    """Sets of one mixer, or why there are none.

    Args:
        mixer: Its settings.
        rows: For every set its sources, their masks and the mix.
        problem: Why there are none; empty if there are.
    """

    mixer: str
    rows: tuple[tuple[Tile, ...], ...] = ()
    problem: str = ""


def example_mixes(configs: Iterable[dict[str, Any]], count: int, open_run: Opener) -> list[ExampleMixes]:
    """Make a few mixes with every mixer of the runs, all from the same images and with the same seed.

    Args:
        configs: Of the runs of a sweep.
        count: Sets of each mixer, in [0, 16].
        open_run: Opens data and teacher of a run's config.
    """
    by_mixer: dict[str, dict[str, Any]] = {}
    for config in configs:
        if isinstance(config.get("mixer"), dict):
            by_mixer.setdefault(_describe(config["mixer"]), config)
    if not count:
        return []
    found = []
    for name, config in by_mixer.items():
        try:
            found.append(ExampleMixes(mixer=name, rows=_rows(config, count, open_run)))
        # What is missing may be any part of a run's surroundings: its data, its teacher, a package, a GPU
        except Exception as error:
            found.append(ExampleMixes(mixer=name, problem=f"{type(error).__name__}: {error}"))
    return found


def data_uri(pixels: np.ndarray) -> str:
    """Write pixels (h, w, 3) or (h, w), 0 to 255, as a PNG in a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return PNG + base64.b64encode(file.getvalue()).decode()


def _rows(its_config: dict[str, Any], count: int, open_run: Opener) -> tuple[tuple[Tile, ...], ...]:
    config: DictConfig = OmegaConf.create(copy.deepcopy(its_config))
    config.data.augment = False
    config.trainer.accelerator = "cpu"
    datamodule, teacher = open_run(config)
    datamodule.batch_size, datamodule.seed = _BATCH, 0
    images, labels = next(iter(datamodule.train_dataloader()))[:2]
    mix: MixedBatch = instantiate(config.mixer)(teacher, images, labels, seed=0)
    shown = denormalize(images, datamodule.mean, datamodule.std)
    mixes = denormalize(mix.images, datamodule.mean, datamodule.std)
    names = datamodule.class_names
    return tuple(_set(mix, row, shown, mixes[row], names) for row in range(min(count, len(mix))))


def _set(mix: MixedBatch, row: int, shown: Tensor, mixed: Tensor, names: list[str]) -> tuple[Tile, ...]:
    weights = mix.mix_weights[row].tolist()
    classes = mix.source_classes[row].tolist()
    sources = [
        Tile(picture=data_uri(_pixels(shown[source])), lines=(names[label],))
        for source, label in zip(mix.source_indices[row].tolist(), classes, strict=True)
    ]
    masks = [
        Tile(picture=data_uri((255 * mask).round().byte().numpy()), lines=(f"weight {weight:.2f}",))
        for mask, weight in zip(mix.masks[row].float(), weights, strict=True)
    ]
    lines = []
    if mix.teacher_logits is not None:
        top = mix.teacher_logits[row].float().softmax(0).topk(min(len(classes), len(names)))
        lines = [f"{names[label]} {share:.2f}" for share, label in zip(*map(Tensor.tolist, top), strict=True)]
    return (*sources, *masks, Tile(picture=data_uri(_pixels(mixed)), lines=tuple(lines)))


def _pixels(image: Tensor) -> np.ndarray:
    return (255 * image).round().byte().permute(1, 2, 0).numpy()


def _describe(node: dict[str, Any]) -> str:
    given = [f"{name}={value}" for name, value in node.items() if name != "_target_" and value is not None]
    path = str(node.get("_target_", "?")).split(".")
    kind = ".".join(path[-2:]) if path[-1].islower() else target(node)
    return f"{kind}({', '.join(given)})"
