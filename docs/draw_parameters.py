"""Draws what k, alpha, lambda_s, sigma and mask_size do to the mixes: `python docs/draw_parameters.py DATA TEACHER`.

DATA is a folder of CIFAR-100 as Parquet shards, TEACHER a checkpoint of wrn_16_2. Under a mix stands in how many fresh
views it holds: in how many crops and flips the teacher's likeliest classes are those of the sources.
"""

import argparse
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow.parquet as parquet
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.experiments.data.cifar import Cifar100
from supermix_pl.experiments.networks import wrn_16_2
from supermix_pl.transforms import RandomCropFlip

MEAN, STD = Cifar100.statistics
_VALUES: dict[str, tuple[float, ...]] = {
    "alpha": (0.3, 1, 3, 30),
    "lambda_s": (0, 5, 25, 100),
    "sigma": (0, 0.5, 1, 2),
    "mask_size": (4, 8, 16, 32),
}
_KS = (2, 3, 4)
_OF_FAST = ("alpha", "lambda_s", "mask_size")  # what is chosen with SuperMix.fast too, beside k
_LOOKS = 20
_MIXERS: dict[str, Callable[..., SuperMix]] = {"SuperMix": SuperMix, "SuperMix.fast": SuperMix.fast}
_SETS = {"SuperMix": 4, "SuperMix.fast": 2}
_SETS_OF_K = {"SuperMix": 2, "SuperMix.fast": 1}
_SHARES = mpl.colormaps["cividis"]
_PARTS = ("mask of source 1", "mix")
_BATCH = 8


def main() -> None:
    """Draw a picture a parameter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    images, names = read_images(options.data)
    teacher = FrozenTeacher(load_checkpoint(wrn_16_2(num_classes=100), options.teacher), mean=MEAN, std=STD)
    for parameter, values in _VALUES.items():
        mixes = {
            name: {value: mixer(**{parameter: value})(teacher, images, seed=0) for value in values}
            for name, mixer in _MIXERS.items()
            if name == "SuperMix" or parameter in _OF_FAST
        }
        save(_beside(images, mixes, parameter, names, teacher), options.output / f"{parameter}.png")
    by_k = {k: {name: mixer(k=k)(teacher, images, seed=0) for name, mixer in _MIXERS.items()} for k in _KS}
    save(_sources(images, by_k, names, teacher), options.output / "k.png")


def read_images(data: Path) -> tuple[Tensor, list[str]]:
    """Read the first test images, in [0, 1], and the names of the classes."""
    table = parquet.read_table(sorted(data.glob("test-*.parquet"))[0]).slice(0, _BATCH)
    column = next(field.name for field in table.schema if str(field.type).startswith("struct"))
    arrays = [np.asarray(Image.open(io.BytesIO(cell["bytes"].as_py()))) for cell in table[column]]
    metadata = table.schema.metadata[b"huggingface"].decode()
    names = _names(metadata)
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255, names


def _names(metadata: str) -> list[str]:
    """Read the names of the fine classes from the schema."""
    features = json.loads(metadata)["info"]["features"]
    return next(value["names"] for name, value in features.items() if "coarse" not in name and "names" in value)


def _beside(
    images: Tensor,
    mixes: Mapping[str, Mapping[float, MixedBatch]],
    parameter: str,
    names: list[str],
    teacher: FrozenTeacher,
) -> Figure:
    """Draw a set a row: its two sources, then mask and mix of every value."""
    values = list(next(iter(mixes.values())))
    lines = [
        (name, of_value, row)
        for name, of_value in mixes.items()
        for row in with_distinct_classes(of_value[values[0]])[: _SETS[name]]
    ]
    figure = Figure((1.2 * (2 + 2 * len(values)) + 0.9, 1.42 * len(lines) + 0.6), layout="constrained")
    axes = figure.subplots(len(lines), 2 + 2 * len(values), squeeze=False)
    for line, (name, of_value, row) in zip(axes, lines, strict=True):
        first = of_value[values[0]]
        line[0].set_ylabel(name, fontsize=9)
        for j in range(2):
            show_image(line[j], images[int(first.source_indices[row, j])])
            line[j].set_xlabel(names[int(first.source_classes[row, j])], fontsize=8)
        for position, mix in enumerate(of_value.values()):
            mask, mixed = line[2 + 2 * position], line[3 + 2 * position]
            mask.imshow(mix.masks[row, 0].numpy(), cmap=_SHARES, vmin=0, vmax=1, interpolation="nearest")
            mask.set_xlabel("weights " + ", ".join(f"{weight:.2f}" for weight in mix.mix_weights[row]), fontsize=8)
            show_image(mixed, mix.images[row])
            mixed.set_xlabel(held(mix, row, teacher), fontsize=8)
    titles = ["source 1", "source 2", *(f"{parameter} = {value:g}\n{part}" for value in values for part in _PARTS)]
    for cell, title in zip(axes[0], titles, strict=True):
        cell.set_title(title, fontsize=9)
    return _finished(figure, axes)


def _sources(
    images: Tensor, mixes: Mapping[int, Mapping[str, MixedBatch]], names: list[str], teacher: FrozenTeacher
) -> Figure:
    """Draw a set a row, some for every k: its sources, its masks, its mix."""
    most = max(mixes)
    lines = [
        (f"k = {k}\n{name}", k, mix, row)
        for k, of_mixer in mixes.items()
        for name, mix in of_mixer.items()
        for row in with_distinct_classes(mix)[: _SETS_OF_K[name]]
    ]
    figure = Figure((1.2 * (2 * most + 1) + 0.9, 1.42 * len(lines) + 0.4), layout="constrained")
    axes = figure.subplots(len(lines), 2 * most + 1, squeeze=False)
    for line, (title, k, mix, row) in zip(axes, lines, strict=True):
        for j in range(k):
            show_image(line[j], images[int(mix.source_indices[row, j])])
            label = f"{names[int(mix.source_classes[row, j])]} {float(mix.mix_weights[row, j]):.2f}"
            line[j].set_xlabel(label, fontsize=8)
            mask = line[most + j]
            mask.imshow(mix.masks[row, j].numpy(), cmap=_SHARES, vmin=0, vmax=1, interpolation="nearest")
            mask.set_xlabel(f"mask {j + 1}", fontsize=8)
        show_image(line[-1], mix.images[row])
        line[-1].set_xlabel(held(mix, row, teacher), fontsize=8)
        line[0].set_ylabel(title, fontsize=9)
    return _finished(figure, axes)


def with_distinct_classes(mix: MixedBatch) -> list[int]:
    """Find the sets whose sources are all of different classes."""
    return [row for row, classes in enumerate(mix.source_classes.tolist()) if len(set(classes)) == len(classes)]


@torch.no_grad()
def held(mix: MixedBatch, row: int, teacher: FrozenTeacher) -> str:
    """Return under how many fresh views the teacher's likeliest classes are those of the sources."""
    shown = mix.images[row].expand(_LOOKS, -1, -1, -1)
    keys = torch.full((_LOOKS,), row)
    view = RandomCropFlip()
    views = view.apply(shown, view.draw(keys, torch.arange(_LOOKS), (shown.shape[2], shown.shape[3])))
    classes = mix.source_classes[row].unique()
    likeliest = teacher(views).topk(len(classes), dim=1).indices.sort(dim=1).values
    return f"holds in {int((likeliest == classes).all(dim=1).sum())} of {_LOOKS}"


def show_image(axes: Any, image: Tensor) -> None:
    """Show an image (c, h, w) in [0, 1]."""
    axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")


def _finished(figure: Figure, axes: np.ndarray) -> Figure:
    for cell in axes.flat:
        cell.set_xticks([])
        cell.set_yticks([])
        if not cell.has_data():
            cell.set_visible(False)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), _SHARES), ax=axes, shrink=0.5, pad=0.01, aspect=30)
    bar.set_label("mask: share of the source")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture of at most 256 colours."""
    figure.savefig(path, dpi=100)
    image = Image.open(path).convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT)
    image.save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    main()
