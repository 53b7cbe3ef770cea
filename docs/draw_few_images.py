"""Draws the study of few images, a point a run: `python docs/draw_few_images.py CSV [CSV ...]`.

One picture has accuracy and calibration against cost, one has them against the images a class. CSV is what the study
writes; rows of one arm have one colour, those of other settings are hollow. The cost is that of the whole training in
multiplications: of the student's passes, the teacher's, forward and backward, and those that made a fixed data set.
"""

import argparse
from pathlib import Path

import pandas as pd
from draw_parameters import save
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from supermix_pl.experiments.shared.palette import METHODS

_LABELS = {
    "kd": "KD, no mixes",
    "mixup": "MixUp",
    "cutmix": "CutMix",
    "supermix": "SuperMix, the stream",
    "callback_distils": "SuperMix, the callback distils",
    "supermix_fixed": "SuperMix, made beforehand",
    "control": "masks on other images",
}
_MARKERS = {"callback_distils": "D", "supermix_fixed": "s"}
_SETTINGS = {"protocol.steps=6250": "twice the steps", "engine.reuse=24 engine.show_from=0": "half as many sets"}
_STEPS = 3125
_MAKING = 20_000 * (13 + 12)  # passes that make a fixed data set
_TEACHER, _STUDENT = 101e6, 41e6  # multiplications of a forward pass of an image: wrn_16_2, resnet20
_MEASURES = {"accuracy": "accuracy, %", "calibration_error": "calibration error, %"}


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", type=Path, nargs="+", metavar="CSV")
    parser.add_argument("--images", type=int, default=10, help="images a class, of the picture against cost")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "images")
    options = parser.parse_args()
    rows = pd.concat([pd.read_csv(table) for table in options.tables])
    rows = rows.loc[
        rows["arm"].isin(list(_LABELS)) & (rows["settings"].isna() | rows["settings"].isin(list(_SETTINGS)))
    ]
    made = rows["arm"].isin(["supermix_fixed", "control"]) * _MAKING
    passes = (rows["teacher_forwards"] + rows["teacher_backwards"]) * rows["steps"] + made
    multiplications = passes * _TEACHER + 3 * rows["samples"] * _STUDENT
    rows = rows.assign(cost=multiplications / (128 * _STEPS * (_TEACHER + 3 * _STUDENT)))
    at_cost = rows.loc[rows["images"] == options.images]
    draw(at_cost, "cost", "cost of the training, teacher and student; 1 is MixUp's", options.folder / "few_images.png")
    alone = rows.loc[rows["settings"].isna()]
    draw(alone, "images", "images a class", options.folder / "few_images_by_size.png")


def draw(rows: pd.DataFrame, against: str, label: str, path: Path) -> None:
    """Draw accuracy and calibration error against a column: the runs of every arm, and their means."""
    figure, sizes = Figure((9, 3.6), layout="constrained"), sorted(set(rows["images"]))
    for axes, (column, name) in zip(figure.subplots(1, 2), _MEASURES.items(), strict=True):
        for arm in _LABELS:
            of_arm = rows.loc[rows["arm"] == arm]
            if len(of_arm):
                draw_arm(axes, of_arm, arm, against, column)
        axes.margins(0.1)
        axes.set_xlabel(label)
        axes.set_ylabel(name)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        if against == "images":
            axes.set_xscale("log")
            axes.set_xticks(sizes, labels=[str(size) for size in sizes])
            axes.minorticks_off()
    figure.axes[0].legend(frameon=False, fontsize=8)
    save(figure, path)


def draw_arm(axes: Axes, rows: pd.DataFrame, arm: str, against: str, column: str) -> None:
    """Draw the runs of an arm small, and their means large, joined where there are several; other settings hollow."""
    label, marker = _LABELS[arm], _MARKERS.get(arm, "o")
    colour = "0.6" if arm == "control" else METHODS.get(label.split(",")[0], METHODS["natural"])
    own = rows.loc[rows["settings"].isna()]
    axes.scatter(own[against], 100 * own[column], s=16, alpha=0.5, color=colour, marker=marker)
    means = pd.DataFrame(own.groupby(own["images"])[[against, column]].mean())
    axes.plot(means[against], 100 * means[column], marker=marker, markersize=8, color=colour, linewidth=1, label=label)
    for settings, name in _SETTINGS.items():
        of_settings = rows.loc[rows["settings"] == settings]
        if len(of_settings):
            place = of_settings[against].mean(), 100 * of_settings[column].mean()
            axes.plot(*place, marker=marker, markersize=8, markerfacecolor="white", color=colour)
            axes.annotate(name, place, xytext=(0, -7), textcoords="offset points", fontsize=7, ha="center", va="top")


if __name__ == "__main__":
    main()
