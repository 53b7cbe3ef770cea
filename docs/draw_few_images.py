"""Draws accuracy and calibration against cost, a point a run: `python docs/draw_few_images.py CSV [CSV ...]`.

CSV is what the study of few images writes; rows of one arm have one colour. The cost is what the teacher passes in a
step, forward and backward, of 64 natural images and 64 others; the passes that made a fixed data set are shared over
the steps.
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
_MAKING = 20_000 * (13 + 12) / 3125  # passes a step of the training, of the fixed data sets
_MEASURES = {"accuracy": "accuracy, %", "calibration_error": "calibration error, %"}


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", type=Path, nargs="+", metavar="CSV")
    parser.add_argument("--images", type=int, default=10, help="images a class")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images" / "few_images.png")
    options = parser.parse_args()
    rows = pd.concat([pd.read_csv(table) for table in options.tables])
    chosen = (
        (rows["images"].astype(str) == str(options.images)) & rows["arm"].isin(list(_LABELS)) & rows["settings"].isna()
    )
    rows = rows.loc[chosen].copy()
    rows["passes"] = rows["teacher_forwards"] + rows["teacher_backwards"]
    rows.loc[rows["arm"].isin(["supermix_fixed", "control"]), "passes"] += _MAKING
    figure = Figure((9, 3.6), layout="constrained")
    for axes, (column, label) in zip(figure.subplots(1, 2), _MEASURES.items(), strict=True):
        draw(axes, rows, column)
        axes.set_xlabel("passes of the teacher a step, forward and backward")
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False, fontsize=8)
    save(figure, options.output)


def draw(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    """Draw the runs of every arm, and their mean."""
    colours = list(METHODS.values())
    for number, (arm, label) in enumerate(_LABELS.items()):
        of_arm = rows[rows["arm"] == arm]
        if of_arm.empty:
            continue
        colour = "0.6" if arm == "control" else METHODS.get(label.split(",")[0], colours[number % len(colours)])
        marker = _MARKERS.get(arm, "o")
        axes.scatter(of_arm["passes"], 100 * of_arm[column], s=16, alpha=0.5, color=colour, marker=marker)
        means = [of_arm["passes"].mean()], [100 * of_arm[column].mean()]
        axes.scatter(*means, s=64, color=colour, marker=marker, label=label)


if __name__ == "__main__":
    main()
