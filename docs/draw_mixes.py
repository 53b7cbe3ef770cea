"""Draws the first picture of the guide, the same sets mixed in four ways: `python docs/draw_mixes.py DATA TEACHER`.

DATA and TEACHER are those of `draw_parameters.py`. The sets are the first ones of two classes: none is chosen.
"""

import argparse
from pathlib import Path

from draw_parameters import MEAN, STD, held, read_images, save, show_image, with_distinct_classes
from matplotlib.figure import Figure

from supermix_pl import CutMix, FrozenTeacher, MixUp, SuperMix
from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.experiments.networks import wrn_16_2

_MIXERS = {
    "MixUp": MixUp(alpha=3.0),
    "CutMix": CutMix(alpha=3.0),
    "SuperMix\n(the paper's)": SuperMix(),
    "SuperMix.fast\n(recommended)": SuperMix.fast(pairing="shift"),
}
_SETS = 3


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images" / "mixes.png")
    options = parser.parse_args()
    images, names = read_images(options.data)
    teacher = FrozenTeacher(load_checkpoint(wrn_16_2(num_classes=100), options.teacher), mean=MEAN, std=STD)
    mixes = {title: mixer(teacher, images, seed=0) for title, mixer in _MIXERS.items()}
    solved = next(iter(reversed(mixes.values())))
    rows = with_distinct_classes(solved)[:_SETS]
    figure = Figure((1.35 * (2 + len(mixes)), 1.62 * len(rows) + 0.35), layout="constrained")
    axes = figure.subplots(len(rows), 2 + len(mixes), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for j in range(2):
            show_image(line[j], images[int(solved.source_indices[row, j])])
            line[j].set_xlabel(names[int(solved.source_classes[row, j])], fontsize=9)
        for cell, mix in zip(line[2:], mixes.values(), strict=True):
            show_image(cell, mix.images[row])
            cell.set_xlabel(held(mix, row, teacher), fontsize=9)
    for cell, title in zip(axes[0], ["image 1", "image 2", *mixes], strict=True):
        cell.set_title(title, fontsize=9)
    for cell in axes.flat:
        cell.set_xticks([])
        cell.set_yticks([])
    save(figure, options.output)


if __name__ == "__main__":
    main()
