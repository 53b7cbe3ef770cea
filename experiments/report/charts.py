"""Draw learning curves from the CSV logs of runs, as SVG that stands inside the page and takes its colours."""

# pandas' own types do not tell a DataFrame from a Series
# pyright: reportArgumentType=false, reportReturnType=false

import html
import io
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from supermix_pl.experiments.shared.palette import BLACK, GREY, SERIES

CURVES = {"val/accuracy": ("validation accuracy %", 100.0), "train/loss": ("training loss", 1.0)}
_DASHES = ((), (6, 3), (2, 2), (8, 3, 2, 3))
_SIZE = (4.2, 2.7)  # inches; small, so that letters are legible on a phone
_SETTINGS = {"svg.fonttype": "none", "font.size": 9.0, "text.parse_math": False}


def style(position: int) -> tuple[str, tuple[int, ...]]:
    """Return colour and dashes of a row's line: colours change first, then dashes."""
    return SERIES[position % len(SERIES)], _DASHES[position // len(SERIES) % len(_DASHES)]


def curve(folders: Sequence[str], name: str) -> pd.DataFrame:
    """Return mean, least and largest of a quantity over runs, at the steps that all of them have, in % of the steps."""
    logs = [log for folder in folders if len(log := read_log(Path(folder), name))]
    if not logs:
        return pd.DataFrame(columns=["mean", "min", "max"])
    shared = pd.concat(logs, axis="columns", join="inner").agg(["mean", "min", "max"], axis="columns").sort_index()
    return shared.set_axis(100 * shared.index / max(shared.index.max(), 1)) if len(shared) else shared


def read_log(folder: Path, name: str) -> pd.Series:
    """Read a quantity of a run by step; a resumed run has several logs, of which the later count."""
    logs = [_read(path, name) for path in sorted(folder.glob("csv/*/metrics.csv"), key=_version)]
    logs = [log for log in logs if {"step", name} <= set(log)]
    if not logs:
        return pd.Series(dtype=float)
    log = pd.concat(logs).apply(pd.to_numeric, errors="coerce")
    log = log.replace([np.inf, -np.inf], np.nan).dropna()
    return log.astype({"step": int}).groupby("step")[name].last()


def chart(curves: Sequence[tuple[int, pd.DataFrame]], *, title: str, salt: str) -> str:
    """Draw curves over the course of training, with the range of the seeds, as an SVG element."""
    file = io.StringIO()
    with mpl.rc_context(_SETTINGS | {"svg.hashsalt": salt}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot(xlabel="% of the steps", xlim=(0, 100))
        for position, points in curves:
            colour, dashes = style(position)
            axes.fill_between(points.index, points["min"], points["max"], color=colour, alpha=0.12, linewidth=0)
            axes.plot(points.index, points["mean"], color=colour, dashes=dashes or (None, None), linewidth=1.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        axes.grid(axis="y", color=GREY, alpha=0.35, linewidth=0.7)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = re.sub(r' width="[^"]*"| height="[^"]*"', "", file.getvalue().partition("<svg")[2], count=2)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg).replace(BLACK, "currentColor")  # names that charts would share
    return f'<svg role="img" aria-label="{html.escape(title)}"{svg}'


def _read(path: Path, name: str) -> pd.DataFrame:
    """Read steps and a quantity; nothing where a log is empty."""
    try:
        return pd.read_csv(
            path, index_col=False, usecols=lambda column: column in ("step", name), encoding_errors="replace"
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def _version(path: Path) -> tuple[int, str]:
    """Sort version_2 before version_10."""
    number = path.parent.name.rpartition("_")[2]
    return (int(number) if number.isdecimal() else -1, path.parent.name)
