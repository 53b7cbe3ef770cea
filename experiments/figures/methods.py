"""Beyond the paper: the methods against steps and passes, and what their mixes show, keep and make of the teacher."""

import argparse
import dataclasses
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from supermix_pl import MixedBatch, SuperMix
from supermix_pl.experiments.figures.measures import Measures, forwards_within, measure, solved_within
from supermix_pl.experiments.figures.sets import methods, mix_with
from supermix_pl.experiments.figures.style import COLOURS, LABEL, MARKS, SMALL, TITLE, Drawn, headline, plain
from supermix_pl.experiments.figures.subject import Subject
from supermix_pl.solver.saliency import input_saliency

_FAST = "SuperMix.fast"
_PROBABILITY = "teacher's largest probability"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the figure can be asked for."""
    parser.add_argument(
        "--images", type=int, default=256, help="test images, each in one mix a method; 256 if not given"
    )


def draw(subject: Subject, options: argparse.Namespace) -> Drawn:
    """Draw the figure: two panels of curves, and a panel of bars for each measure."""
    paper = subject.supermix
    fast = SuperMix.fast(k=paper.k, alpha=paper.alpha, mask_size=paper.mask_size, max_steps=paper.max_steps)
    mixers = methods(paper, paper.k)
    mixers = {"SuperMix": mixers.pop("SuperMix"), _FAST: fast, **mixers}
    mixes = mix_with(mixers, subject, subject.images)
    _, saliency = input_saliency(subject.teacher, subject.images, None)
    found = {name: measure(mix, saliency, subject.boxes) for name, mix in mixes.items()}
    curves = {name: solved_within(mixes[name], paper.max_steps) for name in ("SuperMix", _FAST)}
    figure = Figure(figsize=(15, 7.4), layout="constrained")
    panels = figure.subplots(2, 4).flatten().tolist()
    _draw_curves(panels[0], panels[1], mixes, found, curves)
    measures = found.items()
    bars = [
        (f"all classes in top {paper.k}, % of mixes", {name: 100 * each.shown for name, each in measures}, "{:.0f}"),
        ("saliency kept, %", {name: 100 * each.saliency_kept for name, each in measures}, "{:.0f}"),
        ("teacher's forwards a mix", {name: each.forwards for name, each in measures}, "{:.1f}"),
        (_PROBABILITY, {name: each.probability for name, each in measures}, "{:.2f}"),
        ("T. stddev, thousandths", {name: 1000 * each.mean_deviation for name, each in measures}, "{:.2f}"),
    ]
    kept = {name: 100 * each.boxes_kept for name, each in measures if each.boxes_kept is not None}
    if kept:
        bars.insert(2, ("objects' true boxes kept, %", kept, "{:.0f}"))
    deviations = {name: each.probability_deviation for name, each in measures}
    for panel, (title, values, form) in zip(panels[2:], bars, strict=False):
        _draw_bars(panel, values, title, form, deviations if title == _PROBABILITY else None)
    for unused in panels[2 + len(bars) :]:
        unused.remove()
    figure.suptitle(headline(_title(subject), figure), fontsize=LABEL)
    rows = [{"method": name, **dataclasses.asdict(each)} for name, each in found.items()]
    rows += [{"method": name, "solved_within_steps": curve} for name, curve in curves.items()]
    return Drawn(figure=figure, numbers=rows, seeds=[subject.seed])


def _draw_curves(
    steps: Axes,
    passes: Axes,
    mixes: Mapping[str, MixedBatch],
    found: Mapping[str, Measures],
    curves: Mapping[str, list[float]],
) -> None:
    for name, solved in curves.items():
        limit = len(solved) - 1
        per_cent = [100 * share for share in solved]
        style = {"color": COLOURS[name], "label": name, "linewidth": 2.0, "marker": MARKS[name], "markersize": 5}
        every = max(1, limit // 10)
        steps.plot(range(limit + 1), per_cent, markevery=every, **style)
        extra = found[name].forwards - forwards_within(mixes[name], limit)[-1]  # of a start from saliency, if any
        passes.plot([extra + each for each in forwards_within(mixes[name], limit)], per_cent, markevery=every, **style)
    for name in ("CutMix", "MixUp"):
        steps.axhline(100 * found[name].shown, color=COLOURS[name], linestyle="--", label=f"{name}, by chance")
        passes.axhline(100 * found[name].shown, color=COLOURS[name], linestyle="--")
    steps.set(xlabel="limit on steps", ylabel="sets solved, %", ylim=(0, 102), xlim=(0, None))
    passes.set(xlabel="teacher's forwards a set", ylabel="sets solved, %", ylim=(0, 102), xlim=(0, None))
    steps.set_title("solved against steps", fontsize=TITLE)
    passes.set_title("solved against passes", fontsize=TITLE)
    steps.legend(frameon=False, fontsize=SMALL)
    plain(steps)
    plain(passes)


def _draw_bars(
    axes: Axes,
    values: Mapping[str, float],
    title: str,
    form: str,
    deviations: Mapping[str, float] | None,
) -> None:
    errors = None if deviations is None else [deviations[name] for name in values]
    bars = axes.bar(
        list(values), list(values.values()), color=[COLOURS[name] for name in values], yerr=errors, capsize=4
    )
    labels = [form.format(value) for value in values.values()]
    if deviations is not None:
        labels = [f"{text} ± {deviations[name]:.2f}" for text, name in zip(labels, values, strict=True)]
    axes.bar_label(bars, labels, fontsize=SMALL, padding=2)
    axes.set_title(title, fontsize=TITLE)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.margins(y=0.15)
    plain(axes)


def _title(subject: Subject) -> str:
    return (
        f"{subject.title}; {len(subject.images)} test images, k = {subject.supermix.k}. Solved: the teacher's first "
        "classes of the mix are all those of the set. Saliency kept: share of |image x input gradient| of a source "
        "where its mask keeps it, mean over sources; boxes likewise. ±: standard deviation over mixes. T. stddev: "
        "deviation of the teacher's mean probabilities between parts of the mixes, mean over classes."
    )
