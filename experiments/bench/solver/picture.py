"""What holds against passes, against the masks' sharpness, and against the saliency that they keep."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from supermix_pl.experiments.bench.cost import Row
from supermix_pl.experiments.shared.mixers import BLIND, EXACT, FAST, PAPER
from supermix_pl.experiments.shared.palette import BLACK, BLUE, GREY, MARKS, SERIES
from supermix_pl.experiments.shared.statistics import Summary

_MAIN = {PAPER: (BLACK, "o"), EXACT: (GREY, "o"), FAST: (BLUE, "*")}
_OTHERS = tuple(colour for colour in SERIES if colour not in (BLACK, BLUE))
_COLUMNS = 5
_PANELS = {
    "forwards_per_attempted": "teacher forwards a mix: natural image and rounds",
    "softness_of_all": "m(1-m), 0 for binary masks",
    "saliency_kept": "saliency kept (masks at random: 1/k)",
}


def draw(rows: Sequence[Row], title: str) -> Figure:
    """Draw all mixers, the seeds averaged: a curve is a mixer under all limits on its steps."""
    names = list(dict.fromkeys(row.name for row in rows))
    figure = Figure(figsize=(16, 5.4 + 0.2 * len(names) / _COLUMNS), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for place, name in enumerate(names):
        style, mine = _style(name, place), [row for row in rows if row.name == name]
        shares = [100 * _mean(row, "holds") for row in mine]
        for axes, number in zip(panels, _PANELS, strict=True):
            if name in BLIND and axes is panels[0]:
                axes.axhline(shares[0], linestyle=":", color=style["color"], zorder=1)
            else:
                axes.plot([_mean(row, number) for row in mine], shares, **style, label=name)
    panels[0].set(ylabel="holds, % of fresh views", ylim=(0, 102), xlim=(0, None))
    for axes, label in zip(panels, _PANELS.values(), strict=True):
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=_COLUMNS, frameon=False)
    figure.suptitle(title)
    return figure


def _mean(row: Row, number: str) -> float:
    found = Summary.of(row.values(number))
    return float("nan") if found is None else found.mean


def _style(name: str, number: int) -> dict[str, Any]:
    colour, mark = _MAIN.get(name, (_OTHERS[number % len(_OTHERS)], MARKS[number % len(MARKS)]))
    main = name in _MAIN
    size = {"markersize": 12 if name == FAST else 6, "linewidth": 2.4 if main else 1.2, "zorder": 3 if main else 2}
    return {"color": colour, "marker": mark, "markeredgecolor": "white", **size}
