"""The front as a picture: sets solved against passes, and sharpness of the masks against saliency kept."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from supermix_pl.experiments.bench.front_rows import Row
from supermix_pl.experiments.bench.front_solvers import FAST, NAMES, PAPER

# Okabe and Ito's colours, which differ for all kinds of sight; the shapes of the marks differ too.
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "#8A8A00", "#999999")
_MARKS = ("o", "s", "^", "D", "*", "v", "P", "X", "<")
_STYLES = {str(name): style for name, *style in zip(NAMES, _COLOURS, _MARKS, strict=True)}


def draw(rows: Sequence[Row], options: argparse.Namespace, path: Path) -> None:
    """Draw all solvers, the splits averaged.

    Args:
        rows: What was measured.
        options: The arguments of the program.
        path: Where the picture goes.
    """
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    cost, worth = figure.subplots(1, 2)
    for name in dict.fromkeys(row.name for row in rows):
        _draw_solver(cost, worth, [row for row in rows if row.name == name], options.caps)
    cost.set(xlabel="teacher forwards an attempted set", ylabel="sets solved, %", ylim=(0, 102), xlim=(0, None))
    cost.set_title(f"a curve is a solver at all limits up to {options.caps[-1]} steps", fontsize=10)
    worth.set(xlabel="saliency kept (masks at random: 1/k)", ylabel="m(1-m), 0 for binary masks")
    worth.set_title(f"solved sets, limit {options.caps[-1]}", fontsize=10)
    worth.margins(0.12)
    for axes in (cost, worth):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = cost.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    sets, case = " and ".join(f"{options.sets} sets of {split} images" for split in options.splits), options.case
    figure.suptitle(f"{case.dataset}, {case.network}, k = {options.k}, {sets}")
    figure.savefig(path, dpi=130)


def _draw_solver(cost: Axes, worth: Axes, rows: Sequence[Row], caps: Sequence[int]) -> None:
    name = rows[0].name
    colour, mark = _STYLES[name]
    limits = [[row.numbers(cap) for row in rows] for cap in range(caps[-1] + 1)]
    forwards, solved = (
        [_mean(numbers, name) for numbers in limits] for name in ("forwards_per_attempted", "solved_fraction")
    )
    main = name in (PAPER, FAST)
    size = 11 if name == FAST else 7
    cost.plot(
        forwards,
        100 * np.array(solved),
        color=colour,
        marker=mark,
        markersize=size,
        markeredgecolor="white",
        markevery=list(caps),
        linewidth=2.4 if main else 1.3,
        label=name,
        zorder=3 if main else 2,
    )
    last = [numbers for numbers in limits[-1] if numbers["solved"]]
    if last:
        worth.plot(
            _mean(last, "kept"),
            _mean(last, "mask_softness"),
            mark,
            color=colour,
            markersize=size + 2,
            markeredgecolor="white",
            zorder=3 if main else 2,
        )


def _mean(numbers: Sequence[dict[str, int | float | None]], name: str) -> float:
    """Average a number over the splits where there is one."""
    values = [value for each in numbers if (value := each[name]) is not None]
    return float(np.mean(values))
