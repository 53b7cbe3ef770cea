"""Figure 5: accuracy against the size of D', k, alpha, lambda_s and others, from the folders of runs."""

import argparse
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from supermix_pl.experiments.figures.curves import Curve, find_curves
from supermix_pl.experiments.figures.style import LABEL, SMALL, TITLE, Drawn, headline, plain
from supermix_pl.experiments.shared.palette import BLACK, MARKS, METHODS, ORANGE, PURPLE, SKY
from supermix_pl.experiments.shared.runs.folders import find_runs

_NAMES = {
    "size": "images in D'",
    "k": "k, sources in a set",
    "alpha": r"$\alpha$ of the mixing weights",
    "lambda_s": r"$\lambda_s$, weight of the sparsity",
    "sigma": r"$\sigma$, cells of the mask grid",
    "mask_size": "side of the mask grid",
}
_LOGARITHMIC = ("size", "alpha", "mask_size")
_OTHER_COLOURS = (PURPLE, ORANGE, SKY, BLACK)
_PANEL = (4.6, 3.5)  # inches
_MOST_COLUMNS = 3


def draw(options: argparse.Namespace) -> Drawn:
    """Draw a panel for each parameter, and data set, that runs differ in."""
    runs, problems = find_runs(options.chosen)
    curves = find_curves(runs, best=options.best)
    if not curves:
        raise ValueError(
            f"expected runs that differ in one of {', '.join(_NAMES)} alone, got {len(runs)} runs without such; for "
            "instance: supermix-train -m experiment=ablation_k"
        )
    panels = list(dict.fromkeys((curve.parameter, curve.dataset) for curve in curves))
    columns = 2 if len(panels) == 4 else min(len(panels), _MOST_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(max(_PANEL[0] * columns, 6), _PANEL[1] * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for place, (parameter, dataset) in zip(axes, panels, strict=False):
        _draw_panel(place, [curve for curve in curves if (curve.parameter, curve.dataset) == (parameter, dataset)])
    for place in axes[len(panels) :]:
        place.axis("off")
    epoch = "best" if options.best else "last"
    text = f"Accuracy on the test images, {epoch} epoch; bars: standard deviation (n - 1) over the seeds."
    left_out = f" Folders without a finished run, left out: {len(problems)}." if problems else ""
    note = f" {options.note}." if options.note else ""
    figure.suptitle(headline(text + note + left_out, figure), fontsize=LABEL)
    numbers = [
        {"parameter": curve.parameter, "dataset": curve.dataset, "curve": curve.label, "value": value}
        | {"accuracies": found.values, "mean": found.mean, "deviation": found.deviation}
        for curve in curves
        for value, found in curve.points
    ]
    return Drawn(figure=figure, numbers=numbers, seeds=sorted({run.seed for run in runs}))


def claim(parameter: str, dataset: str) -> tuple[float, str] | None:
    """Return the value that the paper favours, and its words for it in short (Section 4.3)."""
    if parameter == "k":
        if "imagenet" in dataset.lower():
            return 3, "paper, 5c: best at 3 on ImageNet"
        return 2, "paper, 5b: best at 2 on CIFAR-100"
    claims = {
        "size": (500_000, "paper, 5a: levels off at 500 000"),
        "alpha": (3, "paper, 5d: chooses 3"),
        "lambda_s": (30, "paper, 5e: best at about 30"),
    }
    return claims.get(parameter)


def _draw_panel(axes: Axes, curves: Sequence[Curve]) -> None:
    parameter, dataset = curves[0].parameter, curves[0].dataset
    others = iter(_OTHER_COLOURS * len(curves))
    taken: set[str] = set()
    for curve, mark in zip(curves, MARKS * len(curves), strict=False):
        colour = _colour(curve.method)
        if colour is None or colour in taken:
            colour = next(others)
        taken.add(colour)
        seeds = sorted({found.count for _, found in curve.points})
        count = f"{seeds[0]} seed{'s' * (seeds[0] != 1)}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
        axes.errorbar(
            [value for value, _ in curve.points],
            [found.mean for _, found in curve.points],
            yerr=[found.deviation or 0.0 for _, found in curve.points],
            color=colour,
            marker=mark,
            capsize=3,
            label=f"{curve.label} ({count})",
        )
    values = sorted({value for curve in curves for value, _ in curve.points})
    if parameter in _LOGARITHMIC:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(values, [f"{value:g}" if value < 10_000 else f"{value / 1000:g}k" for value in values])
    claimed = claim(parameter, dataset)
    if claimed is not None:
        value, text = claimed
        if values[0] <= value <= values[-1]:
            axes.axvline(value, color="0.45", linestyle="--", linewidth=1.2, zorder=0, label=text)
        else:
            axes.plot([], [], color="0.45", linestyle="--", linewidth=1.2, label=f"{text} (beyond these runs)")
    axes.set_title(f"{dataset}: {_NAMES[parameter].partition(',')[0]}", fontsize=TITLE)
    axes.set_xlabel(_NAMES[parameter], fontsize=LABEL)
    axes.set_ylabel("accuracy, %", fontsize=LABEL)
    axes.tick_params(labelsize=SMALL)
    axes.margins(y=0.35)
    axes.legend(fontsize=SMALL - 1, frameon=False, loc="best")
    plain(axes)


def _colour(method: str) -> str | None:
    return next((colour for name, colour in METHODS.items() if name.lower() in method.lower()), None)
