"""Beyond the paper: some mixes of every method as they are and under fresh views, and what the teacher sees in each."""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from supermix_pl import SuperMix
from supermix_pl.arguments import check_at_least
from supermix_pl.experiments.figures.held import MEANING, Held, held_methods, hold
from supermix_pl.experiments.figures.style import LABEL, SMALL, TITLE, Drawn, headline, readable, show_image
from supermix_pl.experiments.shared.palette import METHODS
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.pictures.tensors import denormalize

_CELL, _TEXT, _HEAD = 1.3, 0.36, 1.3  # inches
_MANY_VIEWS = 4  # for the shares, of all mixes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the figure can be asked for."""
    add = parser.add_argument
    add("--sets", type=int, default=3, help="sets that are shown; 3 if not given")
    add("--views", type=int, default=3, help="fresh views of each mix that are shown; 3 if not given")
    add("--images", type=int, default=256, help="test images, each in the first place of a set; 256 if not given")


def draw(subject: Subject, options: argparse.Namespace) -> Drawn:
    """Draw the figure: a column a method; of each set a row for the exact pixels and one for each view.

    Raises:
        ValueError: If an argument is out of its range, or there are not enough sets.
    """
    for name, value in {"--sets": options.sets, "--views": options.views}.items():
        check_at_least(name, value, 1)
    view, views = subject.view, max(options.views, _MANY_VIEWS)
    mixers, found = held_methods(subject), {}
    for name, mixer in mixers.items():
        rounds = mixer.max_steps if isinstance(mixer, SuperMix) else 1
        found[name] = hold(mixer, subject, [rounds], view, views)[0]
    rows = _recognised(next(iter(found.values())), subject, options.sets)
    k, num_rows = subject.supermix.k, 1 + max(options.views, subject.supermix.k - 1)
    height = _HEAD + options.sets * num_rows * (_CELL + _TEXT)
    figure = Figure(figsize=((1 + len(found)) * (_CELL + 0.25) + 0.5, height), layout="constrained")
    cells = figure.subplots(options.sets * num_rows, 1 + len(found), squeeze=False)
    for cell in cells.flatten():
        cell.axis("off")
    for number, row in enumerate(rows):
        block = cells[number * num_rows : (number + 1) * num_rows]
        _draw_sources([line[0] for line in block[:k]], next(iter(found.values())), row, subject)
        for column, (name, held) in enumerate(found.items(), 1):
            _draw_mix([line[column] for line in block[: 1 + options.views]], held, row, subject, METHODS[name])
    numbers = [_numbers(name, held) for name, held in found.items()]
    cells[0][0].set_title("sources", fontsize=TITLE)
    for cell, each in zip(cells[0][1:], numbers, strict=True):
        title = f"{each['method']}\nholds {100 * each['holds']:.0f} %\nexact pixels {100 * each['exact']:.0f} %"
        cell.set_title(title, fontsize=LABEL)
    figure.suptitle(headline(_title(subject, view), figure), fontsize=LABEL)
    chosen = [
        {"set": row, "method": name, "exact": bool(held.exact[row]), "views": held.looks.holds[row].tolist()}
        for row in rows
        for name, held in found.items()
    ]
    return Drawn(figure=figure, numbers=[*numbers, *chosen], seeds=[subject.seed])


def _recognised(held: Held, subject: Subject, count: int) -> list[int]:
    """Choose the first sets whose sources the teacher gives to their true classes."""
    mix = held.snapshot.mix
    right = (mix.source_classes == subject.labels[mix.source_indices]).all(dim=1)
    different = torch.tensor([len(set(row)) == len(row) for row in mix.source_classes.tolist()])
    rows = (right.cpu() & different).nonzero().squeeze(1).tolist()
    if len(rows) < count:
        raise ValueError(
            f"expected {count} sets whose sources the teacher recognises, got {len(rows)} among {len(mix)}; give a "
            "better teacher, more --images or fewer --sets"
        )
    return rows[:count]


def _draw_sources(column: Sequence[Axes], held: Held, row: int, subject: Subject) -> None:
    mix = held.snapshot.mix
    for number, axes in enumerate(column):
        axes.axis("on")
        image = subject.images[mix.source_indices[row, number]]
        show_image(axes, denormalize(image[None], subject.mean, subject.std)[0])
        name = readable(subject.class_names[int(mix.source_classes[row, number])])
        axes.set_xlabel(f"{name}\nweight {mix.mix_weights[row, number]:.2f}", fontsize=SMALL, labelpad=2)


def _draw_mix(column: Sequence[Axes], held: Held, row: int, subject: Subject, colour: str) -> None:
    """Draw the exact pixels, and fresh views below them."""
    exact = held.snapshot.mix.images[row]
    shown = [(exact, held.exact_logits[row], bool(held.exact[row]))]
    looks = held.looks
    shown += zip(looks.images[row], looks.logits[row], looks.holds[row].tolist(), strict=True)
    for number, (axes, (image, logits, holds)) in enumerate(zip(column, shown, strict=False)):
        axes.axis("on")
        show_image(axes, denormalize(image[None], subject.mean, subject.std)[0])
        weight = "bold" if holds else "normal"
        axes.set_xlabel(_top_classes(logits, subject), fontsize=SMALL, fontweight=weight, labelpad=2)
        axes.set_ylabel("exact" if number == 0 else f"view {number}", fontsize=SMALL, labelpad=2)
        axes.spines[:].set(color=colour if holds else "0.8", linewidth=2.5 if holds else 0.8)


def _top_classes(logits: Float[Tensor, " n"], subject: Subject) -> str:
    top = logits.softmax(0).topk(subject.supermix.k)
    found = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    return "\n".join(f"{readable(subject.class_names[int(label)], 14)} {share:.2f}" for share, label in found)


def _numbers(name: str, held: Held) -> dict[str, Any]:
    mix = held.snapshot.mix
    return {
        "method": name,
        "holds": held.looks.share,
        "exact": float(held.exact.double().mean()),
        "probability": float(held.looks.probability.double().mean()),
        "forwards": (mix.teacher_forwards - mix.label_forwards) / len(mix),
        "backwards": mix.teacher_backwards / len(mix),
        "sets": len(mix),
    }


def _title(subject: Subject, view: object) -> str:
    return (
        f"{subject.title}; k = {subject.supermix.k}. Mixes on their exact pixels and under fresh views ({view}), with "
        "the teacher's first classes and probabilities; bold and framed where they are those of the set. "
        f"{MEANING} Shares: of {len(subject.images)} mixes, {_MANY_VIEWS} views or more each. Sets: the first whose "
        "sources the teacher recognises."
    )
