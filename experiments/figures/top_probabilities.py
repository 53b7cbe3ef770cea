"""Figure 7: the teacher's five largest probabilities, sorted and averaged, for natural images and mixes."""

import argparse

import numpy as np
import torch
from matplotlib.figure import Figure

from supermix_pl.experiments.figures.sets import all_mixes
from supermix_pl.experiments.figures.style import LABEL, SMALL, Drawn, headline, plain
from supermix_pl.experiments.shared.palette import METHODS
from supermix_pl.experiments.shared.subject import Subject

_RANKS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the figure can be asked for."""
    parser.add_argument(
        "--images", type=int, default=512, help="test images, each in one mix a method; 512 if not given"
    )


def draw(subject: Subject, options: argparse.Namespace) -> Drawn:
    """Draw the figure."""
    logits = {name: mix.teacher_logits for name, mix in all_mixes(subject).items() if mix.teacher_logits is not None}
    with torch.no_grad():
        logits = {"natural": subject.teacher(subject.images), **logits}
        if subject.external is not None:
            logits["external"] = subject.teacher(subject.external)
    ranks = min(_RANKS, logits["natural"].shape[1])
    means = {name: each.softmax(1).topk(ranks).values.double().mean(0).tolist() for name, each in logits.items()}
    figure = Figure(figsize=(8.5, 4.6), layout="constrained")
    axes = figure.subplots()
    width = 0.84 / len(means)
    for number, (name, values) in enumerate(means.items()):
        places = np.arange(1, ranks + 1) + width * (number - (len(means) - 1) / 2)
        bars = axes.bar(places, values, width, color=METHODS[name], label=name, edgecolor="white")
        axes.bar_label(bars, [f"{value:.2f}" for value in values], fontsize=SMALL - 1.5, padding=1)
    axes.set(xlabel="place in the teacher's order", ylabel="mean probability", xticks=range(1, ranks + 1), ylim=(0, 1))
    axes.legend(frameon=False, fontsize=LABEL)
    plain(axes)
    text = (
        f"{subject.title}. The teacher's largest probabilities, sorted and averaged: {len(subject.images)} test "
        f"images, and as many mixes of each method, k = {subject.supermix.k}{subject.external_note}. "
        "Flatter is smoother."
    )
    figure.suptitle(headline(text, figure), fontsize=LABEL)
    rows = [{"method": name, "mean_sorted_probabilities": values} for name, values in means.items()]
    return Drawn(figure=figure, numbers=rows, seeds=[subject.seed])
