"""What holds against passes, against the masks' sharpness, and against the saliency that they keep."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from supermix_pl.experiments.bench.pareto.rows import Row
from supermix_pl.experiments.shared.mixers import BLIND, EXACT, FAST, PAPER
from supermix_pl.experiments.shared.palette import BLACK, BLUE, GREY, MARKS, SERIES

_MAIN = {PAPER: (BLACK, "o"), EXACT: (GREY, "o"), FAST: (BLUE, "*")}
_OTHERS = tuple(colour for colour in SERIES if colour not in (BLACK, BLUE))
_COLUMNS = 5


def draw(rows: Sequence[Row], rounds: Sequence[int], goals: Sequence[Sequence[float]], title: str) -> Figure:
    """Draw all mixers, the splits averaged: a curve is a mixer after all numbers of rounds; goals are crosses."""
    names = list(dict.fromkeys(row.name for row in rows))
    figure = Figure(figsize=(16, 5.4 + 0.2 * len(names) / _COLUMNS), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for number, name in enumerate(names):
        mine = [row for row in rows if row.name == name]
        values = {
            key: [mean(row.numbers(each)[key] for row in mine) for each in rounds]
            for key in ("holds", "forwards", "softness", "kept")
        }
        style, shares = _style(name, number), [100 * share for share in values["holds"]]
        if name in BLIND:
            panels[0].axhline(shares[0], linestyle=":", color=style["color"], zorder=1)
        else:
            panels[0].plot(values["forwards"], shares, **style)
        panels[1].plot(values["softness"], shares, **style, label=name)
        panels[2].plot(values["kept"], shares, **style)
    for forwards, share in goals:
        panels[0].plot(forwards, 100 * share, "k+", markersize=14, markeredgewidth=1.5, zorder=4)
    panels[0].set(xlabel="teacher forwards a mix: natural image and rounds", xlim=(0, None))
    panels[0].set(ylabel="holds, % of fresh views", ylim=(0, 102))
    panels[1].set(xlabel="m(1-m), 0 for binary masks")
    panels[2].set(xlabel="saliency kept (masks at random: 1/k)")
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=_COLUMNS, frameon=False)
    figure.suptitle(f"{title}; after {', '.join(map(str, rounds))} rounds")
    return figure


def _style(name: str, number: int) -> dict[str, Any]:
    colour, mark = _MAIN.get(name, (_OTHERS[number % len(_OTHERS)], MARKS[number % len(MARKS)]))
    main = name in _MAIN
    size = {"markersize": 12 if name == FAST else 6, "linewidth": 2.4 if main else 1.2, "zorder": 3 if main else 2}
    return {"color": colour, "marker": mark, "markeredgecolor": "white", **size}
