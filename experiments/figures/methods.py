"""Beyond the paper: what holds against passes, and what the mixes of each method show, keep and make of the teacher."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from supermix_pl import SuperMix
from supermix_pl.experiments.figures.held import MEANING, Held, held_methods, hold
from supermix_pl.experiments.figures.measures import Measures, measure
from supermix_pl.experiments.figures.style import LABEL, SMALL, TITLE, Drawn, headline, plain
from supermix_pl.experiments.shared.mixers import SOLVERS
from supermix_pl.experiments.shared.palette import METHODS
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.solver.saliency import input_saliency

_ROUNDS, _VIEWS = (1, 2, 3, 5, 8, 12, 16, 20), 4
_MARKS = dict(zip(SOLVERS, ("s", "X", "D"), strict=True))
_PROBABILITY = "probability of the set's classes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the figure can be asked for."""
    parser.add_argument(
        "--images", type=int, default=256, help="test images, each in one mix a method; 256 if not given"
    )


def draw(subject: Subject, options: argparse.Namespace) -> Drawn:
    """Draw the figure: a panel of curves, and a panel of bars for each measure."""
    _, saliency = input_saliency(subject.teacher, subject.images, None)
    found, curves = {}, {}
    for name, mixer in held_methods(subject).items():
        own = mixer.max_steps if isinstance(mixer, SuperMix) else _ROUNDS[0]
        rounds = sorted({*(each for each in _ROUNDS if each <= own), own})
        curves[name] = hold(mixer, subject, rounds, subject.view, _VIEWS)
        found[name] = measure(curves[name][-1], saliency, subject.boxes)
    figure = Figure(figsize=(16, 7.4), layout="constrained")
    panels = figure.subplots(2, 4).flatten().tolist()
    _draw_curves(panels[0], curves, found)
    measures = found.items()
    bars = [
        ("holds under fresh views, %", {name: 100 * each.holds for name, each in measures}, "{:.0f}"),
        ("classes on top in exact pixels, %", {name: 100 * each.exact for name, each in measures}, "{:.0f}"),
        (_PROBABILITY, {name: each.probability for name, each in measures}, "{:.2f}"),
        ("saliency kept, %", {name: 100 * each.saliency_kept for name, each in measures}, "{:.0f}"),
        ("m(1-m)", {name: each.softness for name, each in measures}, "{:.3f}"),
        ("T. stddev, thousandths", {name: 1000 * each.mean_deviation for name, each in measures}, "{:.2f}"),
    ]
    kept = {name: 100 * each.boxes_kept for name, each in measures if each.boxes_kept is not None}
    if kept:
        bars.insert(4, ("objects' true boxes kept, %", kept, "{:.0f}"))
    deviations = {name: each.probability_deviation for name, each in measures}
    for panel, (title, values, form) in zip(panels[1:], bars, strict=False):
        _draw_bars(panel, values, title, form, deviations if title == _PROBABILITY else None)
    for unused in panels[1 + len(bars) :]:
        unused.remove()
    figure.suptitle(headline(_title(subject), figure), fontsize=LABEL)
    rows = [{"method": name, **dataclasses.asdict(each)} for name, each in found.items()]
    rows += [{"method": name, "course": _course(curves[name])} for name in SOLVERS]
    return Drawn(figure=figure, numbers=rows, seeds=[subject.seed])


def _course(curve: Sequence[Held]) -> list[dict[str, float]]:
    """Return forwards a mix, without the label of a view, and the share that holds, after numbers of rounds."""
    return [
        {
            "rounds": each.snapshot.rounds,
            "forwards": (each.snapshot.mix.teacher_forwards - each.snapshot.mix.label_forwards)
            / len(each.snapshot.mix),
            "holds": each.looks.share,
        }
        for each in curve
    ]


def _draw_curves(axes: Axes, curves: Mapping[str, Sequence[Held]], found: Mapping[str, Measures]) -> None:
    for name in SOLVERS:
        course = _course(curves[name])
        axes.plot(
            [each["forwards"] for each in course],
            [100 * each["holds"] for each in course],
            color=METHODS[name],
            label=name,
            linewidth=2.0,
            marker=_MARKS[name],
            markersize=5,
        )
    for name in ("CutMix", "MixUp"):
        axes.axhline(100 * found[name].holds, color=METHODS[name], linestyle="--", label=f"{name}, by chance")
    axes.set(xlabel="teacher's forwards a mix", ylabel="holds, %", ylim=(0, 102), xlim=(0, None))
    axes.set_title("holds against passes", fontsize=TITLE)
    axes.legend(frameon=False, fontsize=SMALL)
    plain(axes)


def _draw_bars(
    axes: Axes,
    values: Mapping[str, float],
    title: str,
    form: str,
    deviations: Mapping[str, float] | None,
) -> None:
    errors = None if deviations is None else [deviations[name] for name in values]
    bars = axes.bar(
        list(values), list(values.values()), color=[METHODS[name] for name in values], yerr=errors, capsize=4
    )
    labels = [form.format(value) for value in values.values()]
    if deviations is not None:
        labels = [f"{text}\n±{deviations[name]:.2f}" for text, name in zip(labels, values, strict=True)]
    axes.bar_label(bars, labels, fontsize=SMALL, padding=2)
    axes.set_xticks(range(len(values)), [name.replace(" ", "\n").replace(".", "\n.") for name in values])
    axes.set_title(title, fontsize=TITLE)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.margins(y=0.2)
    plain(axes)


def _title(subject: Subject) -> str:
    return (
        f"{subject.title}; {len(subject.images)} test images, k = {subject.supermix.k}; views: {subject.view}. "
        f"{MEANING} Saliency kept: share of |image x input gradient| of a source where its mask keeps it, mean over "
        "sources; boxes likewise. ±: standard deviation over mixes. T. stddev: deviation of the teacher's mean "
        "probabilities between parts of the mixes, mean over classes."
    )
