"""Draws the first picture of README and guide: ImageNet by twos and threes, `python docs/draw_readme.py DATA`.

DATA is a folder of ImageNet images as Parquet shards; the teacher is EfficientNet-Lite0. Under a mix stand the classes
that it sees first, in the mean over twenty fresh views, and in how many of these they are those of the sources.
"""

import argparse
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import torch
from draw_parameters import save, show_image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from supermix_pl import CutMix, FrozenTeacher, MixedBatch, MixUp, SuperMix
from supermix_pl.experiments.networks import efficientnet_lite0
from supermix_pl.mixing import Mixer
from supermix_pl.solver.masks import mix_images
from supermix_pl.transforms import RandomResizedCropFlip

_VIEW = RandomResizedCropFlip()
_LOOKS = 20
_SIZE = 224
_BATCH = 12
_SETS = {2: 2, 3: 1}
_FINE = {"mask_size": 32, "max_steps": 20}  # for images of this size
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images" / "readme.png")
    parser.add_argument("--seed", type=int, default=0, help="of the images")
    parser.add_argument("--first", type=int, default=1, help="the first set that may be shown")
    options = parser.parse_args()
    images, labels, names = read_images(options.data, options.seed)
    teacher = FrozenTeacher(efficientnet_lite0(), mean=MEAN, std=STD)
    lines = []
    for k, count in _SETS.items():
        solver = SuperMix.fast(k=k, pairing="shift", **_FINE)
        mixers: dict[str, Mixer] = {"MixUp": MixUp(k=k, alpha=3), "CutMix": CutMix(k=k, alpha=3), "SuperMix": solver}
        mixes = {name: mixer(teacher, images, seed=options.seed, view=_VIEW) for name, mixer in mixers.items()}
        bare = {name: unviewed(mix, images) for name, mix in mixes.items()}
        mix = bare["SuperMix"]
        right = (mix.source_classes == labels[mix.source_indices]).all(dim=1)
        used = [row for _, row, _ in lines]
        lines += [(k, row, bare) for row in right.nonzero()[:, 0].tolist() if row >= options.first and row not in used][
            :count
        ]
    most = max(_SETS)
    figure = Figure((1.75 * (most + 3), 2.35 * len(lines)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08)  # pyright: ignore
    axes = figure.subplots(len(lines), most + 3, squeeze=False)
    for line, (k, row, bare) in zip(axes, lines, strict=True):
        for cell in line:
            cell.axis("off")
        mix = bare["SuperMix"]
        for j in range(k):
            cell = line[most - k + j]
            show(cell, images[mix.source_indices[row, j]], names[int(mix.source_classes[row, j])])
        for cell, each in zip(line[most:], bare.values(), strict=True):
            show(cell, each.images[row], seen(each, row, teacher, names))
    for cell, title in zip(axes[0][most:], ["MixUp", "CutMix", "SuperMix"], strict=True):
        cell.set_title(title, fontsize=11)
    axes[0][most - 2].set_title("sources", fontsize=11)
    save(figure, options.output)


def read_images(data: Path, seed: int) -> tuple[Tensor, Tensor, list[str]]:
    """Read some images in [0, 1], their classes, and the names of all classes."""
    table = parquet.read_table(sorted(data.glob("*.parquet"))[0])
    chosen = np.random.default_rng(seed).permutation(len(table))[:_BATCH]
    cells = [table["image"][int(row)]["bytes"].as_py() for row in chosen]
    margin = (256 - _SIZE) // 2
    box = (margin, margin, margin + _SIZE, margin + _SIZE)
    arrays = np.stack([np.asarray(Image.open(io.BytesIO(cell)).convert("RGB").crop(box)) for cell in cells])
    features = json.loads(table.schema.metadata[b"huggingface"].decode())["info"]["features"]
    labels = torch.tensor([table["label"][int(row)].as_py() for row in chosen])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255, labels, features["label"]["names"]


def unviewed(mix: MixedBatch, images: Tensor) -> MixedBatch:
    """Return the mixes as they are, before the view under which they were labelled."""
    return replace(mix, images=mix_images(images[mix.source_indices], mix.masks))


@torch.no_grad()
def seen(mix: MixedBatch, row: int, teacher: FrozenTeacher, names: list[str]) -> str:
    """Return which classes the teacher sees first, and in how many fresh views these are those of the sources."""
    shown = mix.images[row].expand(_LOOKS, -1, -1, -1)
    view = _VIEW.apply(shown, _VIEW.draw(torch.full((_LOOKS,), row), torch.arange(_LOOKS), (_SIZE, _SIZE)))
    classes = mix.source_classes[row].sort().values
    logits = teacher(view)
    likeliest = logits.topk(len(classes), dim=1).indices
    holds = int((likeliest.sort(dim=1).values == classes).all(dim=1).sum())
    shares = logits.softmax(dim=1).mean(dim=0).topk(len(classes))
    told = [f"{short(names[int(c)])} {s:.2f}" for s, c in zip(shares.values, shares.indices, strict=True)]
    return "\n".join([*told, f"holds in {holds} of {_LOOKS} views"])


def short(name: str) -> str:
    """Return the first of the words that a class is known by."""
    return name.split(",")[0][:22]


def show(axes: Axes, image: Tensor, text: str) -> None:
    """Show an image with a text below it."""
    axes.axis("on")
    show_image(axes, image)
    axes.set_xlabel(short(text) if "\n" not in text else text, fontsize=8.5)
    axes.set_xticks([])
    axes.set_yticks([])


if __name__ == "__main__":
    main()
