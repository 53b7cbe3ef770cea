"""Figure 5: accuracy against the size of D', k, alpha, lambda_s and others, from the folders of runs."""

# pandas' own types do not tell a DataFrame from a Series
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from supermix_pl.experiments.figures.style import LABEL, SMALL, TITLE, Drawn, headline, plain
from supermix_pl.experiments.shared.palette import line
from supermix_pl.experiments.shared.runs.budget import as_text, differences, label, training, under
from supermix_pl.experiments.shared.runs.folders import Run, find_runs
from supermix_pl.experiments.shared.runs.identity import dataset, method_in, pair
from supermix_pl.experiments.shared.runs.paper import load

PARAMETERS = {  # the setting, and its name below the axis
    "size": ("mixes.size", "images in D'"),
    "k": ("mixer.k", "k, sources in a set"),
    "alpha": ("mixer.alpha", r"$\alpha$ of the mixing weights"),
    "lambda_s": ("mixer.lambda_s", r"$\lambda_s$, weight of the sparsity"),
    "sigma": ("mixer.sigma", r"$\sigma$, cells of the mask grid"),
    "mask_size": ("mixer.mask_size", "side of the mask grid"),
}
_LOGARITHMIC = ("size", "alpha", "mask_size")
_PANEL = (4.6, 3.5)  # inches
_MOST_COLUMNS = 3


def draw(folders: Sequence[Path], *, best: bool = False, note: str = "") -> Drawn:
    """Draw a panel for each parameter, and data set, that runs differ in."""
    runs, problems = find_runs(folders)
    points = find_points(runs, best=best)
    if points.empty:
        raise ValueError(
            f"expected runs that differ in one of {', '.join(PARAMETERS)} alone, got {len(runs)} runs without such; "
            "for instance: supermix-train -m experiment=ablation_k"
        )
    panels = list(points.groupby(["parameter", "dataset"], sort=False))
    columns = 2 if len(panels) == 4 else min(len(panels), _MOST_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(max(_PANEL[0] * columns, 6), _PANEL[1] * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for place, (names, own) in zip(axes, panels, strict=False):
        _draw_panel(place, *names, own)
    for place in axes[len(panels) :]:
        place.axis("off")
    which = "validation images, best" if best else "test images, last"
    text = f"Accuracy on the {which} epoch; bars: standard deviation (n - 1) over the seeds."
    left_out = f" Folders without a finished run, left out: {len(problems)}." if problems else ""
    remark = f" {note}." if note else ""
    figure.suptitle(headline(text + remark + left_out, figure), fontsize=LABEL)
    numbers = points.astype(object).where(points.notna(), None).to_dict("records")
    return Drawn(figure=figure, numbers=numbers, seeds=sorted({run.seed for run in runs}))


def find_points(runs: Sequence[Run], *, best: bool = False) -> pd.DataFrame:
    """Find the points of all curves: accuracy against one parameter, everything else equal, whatever the experiment.

    Of several runs with the same settings and seed the newest counts. A curve has two values or more.

    Returns:
        A row a point: `parameter`, `dataset`, `method`; `curve`, the method and what sets the curve apart from others
        of its panel; `value` of the parameter; `mean`, `deviation` (NaN of one seed), `count` and `accuracies` in % of
        the seeds.
    """
    rows: list[dict[str, Any]] = []
    for run in sorted(runs, key=lambda run: run.written):
        settings, accuracy = _settings(run), run.number("val/accuracy_best" if best else "test/accuracy")
        for parameter, (key, _) in PARAMETERS.items():
            value, rest = settings.get(key), {name: each for name, each in settings.items() if name != key}
            if accuracy is not None and isinstance(value, int | float):
                own = {name: settings[name] for name in ("dataset", "method")} | {"rest": rest, "group": as_text(rest)}
                own |= {"value": float(value), "seed": run.seed, "accuracy": 100 * accuracy}
                rows.append({"parameter": parameter, **own})
    if not rows:
        return pd.DataFrame()
    found = pd.DataFrame(rows).drop_duplicates(["parameter", "group", "value", "seed"], keep="last")
    counts = pd.Series(found.groupby(["parameter", "group"])["value"].transform("nunique"))
    found = found[counts > 1]
    alike = {names: differences(list(own["rest"])) for names, own in found.groupby(["parameter", "dataset", "method"])}
    found["curve"] = [
        ", ".join(filter(None, [row.method, label(row.rest, alike[row.parameter, row.dataset, row.method])]))
        for row in found.itertuples()
    ]
    found["order"] = found["parameter"].map(list(PARAMETERS).index)
    by = ["order", "parameter", "dataset", "curve", "method", "group", "value"]
    points = found.sort_values([*by, "seed"]).groupby(by, sort=False)["accuracy"]
    points = points.agg(accuracies=tuple, mean="mean", deviation="std", count="count")
    return points.reset_index().drop(columns=["order", "group"])


def _settings(run: Run) -> dict[str, Any]:
    method = method_in(load().tables["custom"], run).partition("_k")[0]
    names = {name: value for name in ("protocol", "scale") if (value := run.name_of(name))}
    own = {"method": method, "pair": pair(run), "dataset": dataset(run.config)}
    return under(run.number("teacher/accuracy"), own) | names | training(run.config)


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


def _draw_panel(axes: Axes, parameter: str, dataset: str, points: pd.DataFrame) -> None:
    for place, (name, own) in enumerate(points.groupby("curve", sort=False)):
        seeds = " to ".join(map(str, sorted({int(own["count"].min()), int(own["count"].max())})))
        axes.errorbar(
            own["value"],
            own["mean"],
            yerr=own["deviation"].fillna(0.0),
            capsize=3,
            **line(place),
            label=f"{name} ({seeds} seed{'s' * (seeds != '1')})",
        )
    values = sorted(points["value"].unique())
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
    title = PARAMETERS[parameter][1]
    axes.set_title(f"{dataset}: {title.partition(',')[0]}", fontsize=TITLE)
    axes.set_xlabel(title, fontsize=LABEL)
    axes.set_ylabel("accuracy, %", fontsize=LABEL)
    axes.tick_params(labelsize=SMALL)
    axes.margins(y=0.35)
    axes.legend(fontsize=SMALL - 1, frameon=False, loc="best")
    plain(axes)
