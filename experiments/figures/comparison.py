"""Figure 4: sources, masks and mixes of every method for several k."""

import argparse
import functools
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from supermix_pl import MixedBatch
from supermix_pl.experiments.figures.sets import CHOICE, Sets, mixed_sets
from supermix_pl.experiments.figures.style import (
    LABEL,
    SHARES,
    SMALL,
    TITLE,
    Drawn,
    bare,
    headline,
    readable,
    show_image,
    show_mask,
)
from supermix_pl.experiments.shared.measures import accepted
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.pictures.tensors import denormalize

_CELL, _GAP, _LEFT, _TOP, _BOTTOM = 0.92, 0.1, 1.0, 0.95, 0.95  # inches
_TEXT, _BETWEEN = 0.42, 0.26  # two lines under a picture, and what sets blocks apart
_NARROWEST = 6.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the figure can be asked for."""
    add = parser.add_argument
    add("--k", type=numbers, default=[2, 3, 4], metavar="K,K", help="sources in a set, each >= 2; 2,3,4 if not given")
    add("--sets", type=int, default=1, help="sets of each k; 1 if not given")
    add("--images", type=int, default=256, help="test images among which sets are looked for; 256 if not given")


def numbers(text: str) -> list[int]:
    """Read whole numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def draw(subject: Subject, options: argparse.Namespace) -> Drawn:
    """Draw the figure.

    Raises:
        ValueError: If there are not enough sets.
    """
    return draw_sets(subject, [mixed_sets(subject, k, options.sets) for k in options.k], head=CHOICE)


def draw_sets(subject: Subject, chosen: Sequence[Sets], *, head: str = "") -> Drawn:
    """Draw sets that are chosen and mixed.

    Args:
        subject: Whose they are.
        chosen: With a number of sources each.
        head: Says how they were chosen.
    """
    blocks = [(sets, number) for sets in chosen for number in range(len(sets.images) // sets.k)]
    most, num_rows = max(sets.k for sets in chosen), 1 + len(chosen[0].mixes)
    figure, cells = _cells(len(blocks) * num_rows, most, num_rows)
    for place, (sets, number) in enumerate(blocks):
        _draw_block(cells[place * num_rows : (place + 1) * num_rows], subject, sets, number, most)
    for column, cell in enumerate(cells[0]):
        cell.set_title(f"mask {column + 1}" if column < most else "mix", fontsize=TITLE)
    _scale(figure, most)
    title = headline(f"{subject.title}. {head} p: the teacher's probability of a source's class in the mix.", figure)
    figure.suptitle(title, fontsize=LABEL, y=1 - 0.08 / figure.get_figheight())
    rows = [
        {"k": sets.k, "set": number, "method": name, **_facts(mix, number * sets.k)}
        for sets, number in blocks
        for name, mix in sets.mixes.items()
    ]
    return Drawn(figure=figure, numbers=rows, seeds=[subject.seed])


def _cells(num_rows: int, most: int, rows_a_block: int) -> tuple[Figure, list[list[Axes]]]:
    """Place square cells by hand, blocks set apart; a layout engine takes long over a hundred of them."""
    num_blocks = num_rows // rows_a_block
    bounds = [_left(column, most) for column in range(most + 1)]
    width = max(_left(most + 1, most) + _GAP, _NARROWEST)
    height = _TOP + num_rows * (_CELL + _TEXT) + (num_blocks - 1) * _BETWEEN + _BOTTOM
    figure = Figure(figsize=(width, height))
    tops = [_TOP + row * (_CELL + _TEXT) + row // rows_a_block * _BETWEEN for row in range(num_rows)]
    size = (_CELL / width, _CELL / height)
    cells = [[figure.add_axes((left / width, 1 - (top + _CELL) / height, *size)) for left in bounds] for top in tops]
    return figure, cells


def _left(column: int, most: int) -> float:
    """Place a column, in inches; the mixes stand apart."""
    return _LEFT + column * (_CELL + _GAP) + _GAP * (column >= most)


def _draw_block(rows: Sequence[Sequence[Axes]], subject: Subject, sets: Sets, number: int, most: int) -> None:
    """Draw a set: the sources above, then a row a method."""
    first, k = number * sets.k, sets.k
    look = functools.partial(denormalize, mean=subject.mean, std=subject.std)
    classes = next(iter(sets.mixes.values())).source_classes[first]
    _name_row(rows[0][0], f"k = {k}\nsources", bold=True)
    for cell, source, label in zip(rows[0], look(sets.images[first : first + k]), classes.tolist(), strict=False):
        show_image(cell, source)
        cell.set_xlabel(readable(subject.class_names[label], 14), fontsize=SMALL, labelpad=2)
    for row, (method, mix) in zip(rows[1:], sets.mixes.items(), strict=True):
        assert mix.teacher_logits is not None
        _name_row(row[0], method)
        probabilities = mix.teacher_logits[first].softmax(0)[classes].tolist()
        for source in range(k):
            show_mask(row[source], mix.masks[first, source])
            text = f"weight {mix.mix_weights[first, source]:.2f}\np {probabilities[source]:.2f}"
            row[source].set_xlabel(text, fontsize=SMALL, labelpad=2)
        show_image(row[most], look(mix.images[first : first + 1])[0])
        found = _facts(mix, first)["in_top_k"]
        row[most].set_xlabel(f"{found} of {k} in top {k}", fontsize=SMALL, labelpad=2)
    for row in rows:
        for cell in row:
            if not cell.images:
                cell.axis("off")


def _name_row(cell: Axes, text: str, *, bold: bool = False) -> None:
    weight = "bold" if bold else "normal"
    cell.text(-0.12, 0.5, text, transform=cell.transAxes, ha="right", va="center", fontsize=TITLE, fontweight=weight)
    bare(cell)


def _facts(mix: MixedBatch, row: int) -> dict[str, float]:
    """Return how well the teacher finds the classes of a set."""
    assert mix.teacher_logits is not None
    classes = set(mix.source_classes[row].tolist())
    top = set(mix.teacher_logits[row].topk(min(len(classes), mix.teacher_logits.shape[1])).indices.tolist())
    return {"in_top_k": len(classes & top), "solved": bool(accepted(mix)[row]), "steps": int(mix.num_steps[row])}


def _scale(figure: Figure, most: int) -> None:
    width, height = figure.get_size_inches()
    axes = figure.add_axes((_LEFT / width, 0.5 / height, (most * (_CELL + _GAP) - _GAP) / width, 0.13 / height))
    scale = figure.colorbar(ScalarMappable(Normalize(0, 1), SHARES), cax=axes, orientation="horizontal")
    scale.set_label("mask: share of the source at a pixel", fontsize=SMALL)
    scale.ax.tick_params(labelsize=SMALL)
