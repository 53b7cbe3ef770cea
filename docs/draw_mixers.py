"""Draws the same pairs of ImageNet images under all mixers: `python docs/draw_mixers.py DATA`.

DATA is a folder of ImageNet images as Parquet shards; the teacher is EfficientNet-Lite0. Under a mix stand the classes
that it sees first, in the mean over twenty fresh views, and in how many of these they are those of the sources.
"""

import argparse
from pathlib import Path
from typing import Any

from draw_parameters import save
from draw_readme import MEAN, STD, read_images, seen, show
from matplotlib.figure import Figure

from supermix_pl import CutMix, FMix, FrozenTeacher, MixUp, PuzzleMix, ResizeMix, SaliencyMix, SuperMix
from supermix_pl.experiments.networks import efficientnet_lite0
from supermix_pl.mixing import Mixer
from supermix_pl.transforms import RandomResizedCropFlip

_IMAGES = 6
_SHOWN = (2, 4)
_EQUAL: dict[str, Any] = {"alpha": 30.0}  # weights that are nearly equal show most of both sources
_MIXERS: dict[str, Mixer] = {
    "MixUp": MixUp(**_EQUAL),
    "CutMix": CutMix(**_EQUAL),
    "FMix": FMix(**_EQUAL),
    "ResizeMix": ResizeMix(scale=(0.6, 0.8)),
    "SaliencyMix": SaliencyMix(**_EQUAL),
    "PuzzleMix": PuzzleMix(grids=(16,), **_EQUAL),
    "SuperMix": SuperMix(sigma=2.0, mask_size=16, max_steps=20, **_EQUAL),
    "SuperMix.fast": SuperMix.fast(
        pairing="shift", mask_size=32, max_steps=20, views=RandomResizedCropFlip(), **_EQUAL
    ),
}


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images" / "mixers.png")
    parser.add_argument("--seed", type=int, default=0, help="of the images")
    options = parser.parse_args()
    images, _, names = read_images(options.data, options.seed)
    images = images[:_IMAGES]
    teacher = FrozenTeacher(efficientnet_lite0(), mean=MEAN, std=STD)
    mixes = {name: mixer(teacher, images, seed=options.seed) for name, mixer in _MIXERS.items()}
    figure = Figure((1.75 * (2 + len(mixes)), 2.35 * len(_SHOWN)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08)  # pyright: ignore
    axes = figure.subplots(len(_SHOWN), 2 + len(mixes), squeeze=False)
    for line, row in zip(axes, _SHOWN, strict=True):
        first = mixes["MixUp"]
        for cell, source, known in zip(line, first.source_indices[row], first.source_classes[row], strict=False):
            show(cell, images[source], names[int(known)])
        for cell, mix in zip(line[2:], mixes.values(), strict=True):
            show(cell, mix.images[row], seen(mix, row, teacher, names))
    for cell, title in zip(axes[0], ["source 1", "source 2", *mixes], strict=True):
        cell.set_title(title, fontsize=11)
    save(figure, options.output)


if __name__ == "__main__":
    main()
