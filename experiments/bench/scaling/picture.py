"""The scaling as a picture: a column a variable; what holds, passes, time and memory below each other."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from supermix_pl.experiments.bench.scaling.series import VARIABLES, Point
from supermix_pl.experiments.shared.mixers import FAST, PAPER
from supermix_pl.experiments.shared.palette import BLUE, VERMILION
from supermix_pl.experiments.shared.statistics import Summary

_STYLES = {PAPER: (BLUE, "o", 8), FAST: (VERMILION, "s", 4.5)}
_NUMBERS = {
    "holds": "holds, %",
    "forwards_per_attempted": "teacher forwards a mix",
    "ms_per_attempted": "ms a mix",
    "peak": "peak memory, MiB",
}
_LEAST_SPAN = 10.0  # of an axis, so that a small difference looks small


def draw(points: Sequence[Point], title: str) -> Figure:
    """Draw all series."""
    variables = list(dict.fromkeys(point.variable for point in points))
    figure = Figure(figsize=(3.4 * len(variables) + 2.6, 11), layout="constrained")
    panels = figure.subplots(len(_NUMBERS), len(variables), squeeze=False, sharex="col")
    for column, variable in enumerate(variables):
        series = [point for point in points if point.variable == variable]
        for place, (number, label) in enumerate(_NUMBERS.items()):
            axes = panels[place][column]
            for name, (colour, mark, size) in _STYLES.items():
                drawn = sorted((each for each in series if each.name == name), key=lambda each: each.value)
                values = [_value(point, number) for point in drawn]
                style = {"color": colour, "marker": mark, "markersize": size, "label": name}
                axes.plot([point.value for point in drawn], values, **style)
            _dress(axes, [point.value for point in series], share=number == "holds")
            if column == 0:
                axes.set_ylabel(label)
        panels[-1][column].set_xlabel(VARIABLES[variable])
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(f"{title}: what holds, and the cost of a mix")
    return figure


def _value(point: Point, number: str) -> float:
    if number == "peak":
        return point.peak / 2**20
    summary = Summary.of(point.values(number))
    if summary is None:
        return math.nan
    return summary.median if number.startswith("ms") else summary.mean * (100 if number == "holds" else 1)


def _dress(axes: Axes, values: Sequence[int], *, share: bool) -> None:
    ticks = sorted(set(values))
    if ticks[-1] > 3 * ticks[0]:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if share:
        axes.set_ylim(0, 102)
        return
    axes.set_yscale("log")
    least, most = axes.get_ylim()
    slack = max(1.0, _LEAST_SPAN * least / most) ** 0.5
    axes.set_ylim(least / slack, most * slack)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_locator(NullLocator())
