"""The front as a picture: what holds against passes, against the masks' sharpness, and against saliency kept."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from supermix_pl.experiments.bench.front_report import GOALS
from supermix_pl.experiments.bench.front_rows import Row
from supermix_pl.experiments.bench.front_settings import BEFORE, BLIND, FAST, PAPER

# Okabe and Ito's colours, which differ for all kinds of sight; the shapes of the marks differ too.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#8A8A00", "#999999")
_MARKS = ("s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
_MAIN = {PAPER: ("#000000", "o"), BEFORE: ("#888888", "o"), FAST: ("#0072B2", "*")}
_COLUMNS = 5


def draw(rows: Sequence[Row], options: argparse.Namespace, path: Path) -> None:
    """Draw all settings, the splits averaged: a curve is a setting after all numbers of rounds.

    Args:
        rows: What was measured.
        options: The arguments of the program.
        path: Where the picture goes.
    """
    names = list(dict.fromkeys(row.name for row in rows))
    figure = Figure(figsize=(16, 5.4 + 0.2 * len(names) / _COLUMNS), layout="constrained")
    cost, softness, kept = figure.subplots(1, 3, sharey=True)
    for number, name in enumerate(names):
        mine = [row for row in rows if row.name == name]
        values = {
            key: [mean(row.numbers(rounds)[key] for row in mine) for rounds in options.rounds]
            for key in ("holds", "forwards", "softness", "kept")
        }
        style = _style(name, number)
        shares = [100 * share for share in values["holds"]]
        if name in BLIND:
            cost.axhline(shares[0], linestyle=":", color=style["color"], zorder=1)
        else:
            cost.plot(values["forwards"], shares, **style)
        softness.plot(values["softness"], shares, **style, label=name)
        kept.plot(values["kept"], shares, **style)
    for forwards, share in GOALS.get((options.case.dataset, options.k), ()):
        cost.plot(forwards, 100 * share, "k+", markersize=14, markeredgewidth=1.5, zorder=4)
    cost.set(xlabel="teacher forwards a mix: natural image and rounds", xlim=(0, None))
    cost.set(ylabel="holds, % of fresh views", ylim=(0, 102))
    softness.set(xlabel="m(1-m), 0 for binary masks")
    kept.set(xlabel="saliency kept (masks at random: 1/k)")
    for axes in (cost, softness, kept):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = softness.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=_COLUMNS, frameon=False)
    case, sets = options.case, " and ".join(f"{options.sets} sets of {split} images" for split in options.splits)
    figure.suptitle(
        f"{case.dataset}, {case.network}, k = {options.k}, {sets}; after {', '.join(map(str, options.rounds))} rounds "
        "(+: goals)"
    )
    figure.savefig(path, dpi=130)


def _style(name: str, number: int) -> dict:
    colour, mark = _MAIN.get(name, (_COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]))
    main = name in _MAIN
    return {
        "color": colour,
        "marker": mark,
        "markersize": 12 if name == FAST else 6,
        "markeredgecolor": "white",
        "linewidth": 2.4 if main else 1.2,
        "zorder": 3 if main else 2,
    }
