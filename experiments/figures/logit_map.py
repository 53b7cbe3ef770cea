"""Figure 6: the teacher's logits of natural images and mixes in two dimensions, and how widely the classes spread."""

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from supermix_pl.arguments import check_at_least
from supermix_pl.experiments.figures.sets import methods
from supermix_pl.experiments.figures.style import LABEL, TITLE, Drawn, headline, plain, readable
from supermix_pl.experiments.shared.palette import MARKS, SERIES
from supermix_pl.experiments.shared.subject import Subject

_NUM_CLASSES = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Images as the teacher sees them.

    Args:
        logits: Of each.
        classes: The teacher's class of each.
    """

    logits: Float[Tensor, "m n"]
    classes: Int[Tensor, " m"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the figure can be asked for."""
    add = parser.add_argument
    add("--images", type=int, default=4000, help="test images; 4000 if not given")
    add("--per-class", type=int, default=60, help="images of each class that are mixed, >= 1; 60 if not given")


def draw(subject: Subject, options: argparse.Namespace) -> Drawn:
    """Draw the figure: three classes at random, a panel for natural images and for each method.

    Raises:
        ValueError: If there are not three classes with at least two images each, or none of them is to be mixed.
    """
    check_at_least("--per-class", options.per_class, 1)
    natural = _look(subject, subject.images)
    wanted = _random_classes(natural, subject.seed)
    anchors = torch.cat([(natural.classes == each).nonzero().squeeze(1)[: options.per_class] for each in wanted])
    others = (~torch.isin(natural.classes, torch.tensor(wanted).to(natural.classes))).nonzero().squeeze(1)
    if len(others) == 0:
        others = torch.arange(len(natural.classes), device=anchors.device)
    k = max(2, subject.supermix.k)
    partners = others[torch.arange(len(anchors) * (k - 1), device=others.device) % len(others)].view(-1, k - 1)
    images = subject.images[torch.cat([anchors[:, None], partners], dim=1).flatten()]  # set i: rows i k to i k + k - 1
    sources = {"natural": Points(logits=natural.logits[anchors], classes=natural.classes[anchors])}
    for name, mixer in methods(subject.supermix, k).items():
        mix = mixer(subject.teacher, images, seed=subject.seed)
        assert mix.teacher_logits is not None
        sources[name] = Points(logits=mix.teacher_logits, classes=mix.teacher_logits.argmax(dim=1))
    if subject.external is not None:
        found = _look(subject, subject.external)
        rows = torch.cat([(found.classes == each).nonzero().squeeze(1)[: options.per_class] for each in wanted])
        sources["external"] = Points(logits=found.logits[rows], classes=found.classes[rows])
    axes_of_natural = _principal_axes(sources["natural"].logits)
    figure = Figure(figsize=(3.1 * len(sources) + 0.4, 4.2), layout="constrained")
    panels = figure.subplots(1, len(sources), sharex=True, sharey=True)
    rows = []
    for panel, (name, points) in zip(panels, sources.items(), strict=True):
        kept = [points.logits[points.classes == each] for each in wanted]
        for label, logits, colour, mark in zip(wanted, kept, SERIES, MARKS, strict=False):
            places = _project(logits, axes_of_natural)
            text = readable(subject.class_names[label])
            panel.scatter(*places.T, s=14, c=colour, marker=mark, alpha=0.6, linewidths=0, label=text)
        spread = class_spread(kept)
        panel.set_title(f"{name}\nc-std {spread:.2f}, {sum(map(len, kept))} images", fontsize=TITLE)
        panel.set_xlabel("first principal axis", fontsize=LABEL)
        plain(panel)
        rows.append({"method": name, "class_spread": spread, "images": [len(each) for each in kept]})
    panels[0].set_ylabel("second principal axis", fontsize=LABEL)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=LABEL)
    figure.suptitle(headline(_title(subject, k), figure), fontsize=LABEL)
    return Drawn(figure=figure, numbers=rows, seeds=[subject.seed])


def class_spread(classes: list[Float[Tensor, "_ n"]]) -> float:
    """Return the root mean square distance of logits to their class's mean, averaged over the classes (c-std).

    Args:
        classes: Logits of the images of each class; classes of fewer than two images are left out.
    """
    spreads = [
        float((each - each.mean(dim=0)).double().square().sum(dim=1).mean().sqrt()) for each in classes if len(each) > 1
    ]
    return float(np.mean(spreads)) if spreads else float("nan")


def _look(subject: Subject, images: Float[Tensor, "b c h w"]) -> Points:
    with torch.no_grad():
        logits = torch.cat([subject.teacher(part) for part in images.split(500)])
    return Points(logits=logits, classes=logits.argmax(dim=1))


def _random_classes(natural: Points, seed: int) -> list[int]:
    counts = torch.bincount(natural.classes, minlength=natural.logits.shape[1])
    there = (counts > 1).nonzero().squeeze(1).tolist()
    if len(there) < _NUM_CLASSES:
        raise ValueError(f"expected three classes that the teacher finds twice, got {len(there)}; give more --images")
    chosen = np.random.default_rng(seed).choice(len(there), _NUM_CLASSES, replace=False)
    return [there[number] for number in sorted(chosen)]


def _principal_axes(logits: Float[Tensor, "m n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "2 n"]]:
    """Return the mean and the two directions of largest variance."""
    mean = logits.double().mean(dim=0)
    return mean, torch.linalg.svd(logits.double() - mean, full_matrices=False).Vh[:2]


def _project(logits: Float[Tensor, "m n"], axes: tuple[Float[Tensor, " n"], Float[Tensor, "2 n"]]) -> np.ndarray:
    mean, directions = axes
    return ((logits.double() - mean) @ directions.T).cpu().numpy()


def _title(subject: Subject, k: int) -> str:
    return (
        f"{subject.title}. Logits of images that the teacher gives to three random classes; all panels have the "
        f"principal axes of the natural ones. Mixes: k = {k}, one source or more of these classes"
        f"{subject.external_note}. c-std: root mean square distance of logits to their class's mean, averaged over the "
        "classes."
    )
