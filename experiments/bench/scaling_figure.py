"""The scaling as a picture: a column a variable; passes, time and memory below each other."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from supermix_pl.experiments.bench.scaling_report import Row
from supermix_pl.experiments.bench.scaling_settings import FAST, PAPER, VARIABLES

# Okabe and Ito's colours, which differ for all kinds of sight; marks and lines differ too.
_STYLES = {PAPER: ("#0072B2", "o", 8), FAST: ("#D55E00", "s", 4.5)}
_NUMBERS = {
    "solved_share": "holds, %",
    "forwards_an_attempted_set": "teacher forwards a mix",
    "ms_an_attempted_set": "ms a mix",
    "peak": "peak memory, MiB",
}
_LEAST_SPAN = 10.0  # of an axis, so that a small difference looks small


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw all series.

    Args:
        rows: What was measured.
        path: Where the picture goes.
    """
    variables = list(dict.fromkeys(row.point.variable for row in rows))
    figure = Figure(figsize=(3.4 * len(variables) + 0.6, 11), layout="constrained")
    panels = figure.subplots(len(_NUMBERS), len(variables), squeeze=False, sharex="col")
    for column, variable in enumerate(variables):
        series = [row for row in rows if row.point.variable == variable]
        for place, (number, label) in enumerate(_NUMBERS.items()):
            axes = panels[place][column]
            _draw_number(axes, series, number)
            _dress(axes, [row.point.value for row in series], share=number == "solved_share")
            if column == 0:
                axes.set_ylabel(label)
        panels[-1][column].set_xlabel(VARIABLES[variable])
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle("What holds, and the cost of a mix: teacher passes, time and memory (logarithmic scales)")
    figure.savefig(path, dpi=130)


def _draw_number(axes: Axes, series: Sequence[Row], number: str) -> None:
    for solver, (colour, mark, size) in _STYLES.items():
        for network in dict.fromkeys(row.point.setting.network for row in series):
            drawn = [row for row in series if row.solver == solver and row.point.setting.network == network]
            drawn.sort(key=lambda row: row.point.value)
            axes.plot(
                [row.point.value for row in drawn],
                [_value(row, number) for row in drawn],
                color=colour,
                marker=mark,
                markersize=size,
                label=solver if network == series[0].point.setting.network else None,
            )
            if solver == PAPER and number == "peak" and len({row.point.setting.network for row in series}) > 1:
                place = (drawn[0].point.value, _value(drawn[0], number))
                axes.annotate(network, place, (10, -8), textcoords="offset points", fontsize=8)


def _value(row: Row, number: str) -> float:
    if number == "peak":
        return row.peak / 2**20
    value = row.centre(number)
    return math.nan if value is None else value * (100 if number == "solved_share" else 1)


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
