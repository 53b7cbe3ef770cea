"""Figure 4: sources, masks and mixes of every method for several k, and where the teacher finds the classes in them."""

import argparse
import functools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from supermix_pl import MixedBatch
from supermix_pl.experiments.figures import activation
from supermix_pl.experiments.figures.sets import CHOICE, Sets, mixed_sets
from supermix_pl.experiments.figures.style import (
    ACTIVATION,
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
_TEXT = 0.26  # a line under a picture
_NARROWEST = 6.5
_SEEN = 0.55  # opacity of an activation over its image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the figure can be asked for."""
    add = parser.add_argument
    add("--k", type=numbers, default=[2, 3, 4], metavar="K,K", help="sources in a set, each >= 2; 2,3,4 if not given")
    add("--sets", type=int, default=1, help="sets of each k; 1 if not given")
    add("--images", type=int, default=256, help="test images among which sets are looked for; 256 if not given")
    add("--no-cam", action="store_true", help="no class activation maps, which need the extra `figures`")


def numbers(text: str) -> list[int]:
    """Read whole numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def draw(subject: Subject, options: argparse.Namespace) -> Drawn:
    """Draw the figure.

    Raises:
        ImportError: If activation maps are wanted, and torchcam is not there.
        ValueError: If there are not enough sets.
    """
    if not options.no_cam:
        activation.check_installed()
    chosen = [mixed_sets(subject, k, options.sets) for k in options.k]
    return draw_sets(subject, chosen, head=CHOICE, with_maps=not options.no_cam)


def draw_sets(subject: Subject, chosen: Sequence[Sets], *, head: str = "", with_maps: bool = False) -> Drawn:
    """Draw sets that are chosen and mixed.

    Args:
        subject: Whose they are.
        chosen: With a number of sources each.
        head: Says how they were chosen.
        with_maps: Whether to draw class activation maps.
    """
    blocks = [(sets, number) for sets in chosen for number in range(len(sets.images) // sets.k)]
    most, num_rows = max(sets.k for sets in chosen), 1 + len(chosen[0].mixes)
    num_columns = (2 if with_maps else 1) * most + 1
    figure, cells = _cells(len(blocks) * num_rows, num_columns, num_rows, most, _TEXT * (1 if with_maps else 1.6))
    for place, (sets, number) in enumerate(blocks):
        block = cells[place * num_rows : (place + 1) * num_rows]
        _draw_block(block, subject, sets, number, most, with_maps=with_maps)
    for column in range(num_columns):
        title = f"mask {column + 1}" if column < most else "mix" if column == most else f"class {column - most}"
        cells[0][column].set_title(title, fontsize=TITLE)
    _scales(figure, with_maps=with_maps, columns=(most, num_columns))
    title = headline(_title(subject, head, with_maps=with_maps), figure)
    figure.suptitle(title, fontsize=LABEL, y=1 - 0.08 / figure.get_figheight())
    rows = [
        {"k": sets.k, "set": number, "method": name, **_facts(mix, number * sets.k)}
        for sets, number in blocks
        for name, mix in sets.mixes.items()
    ]
    return Drawn(figure=figure, numbers=rows, seeds=[subject.seed])


def _cells(
    num_rows: int, num_columns: int, rows_a_block: int, most: int, text: float
) -> tuple[Figure, list[list[Axes]]]:
    """Place square cells by hand, blocks set apart; a layout engine takes long over a hundred of them."""
    num_blocks = num_rows // rows_a_block
    width = max(_left(num_columns, most) + _GAP, _NARROWEST)
    height = _TOP + num_rows * (_CELL + text) + (num_blocks - 1) * _TEXT + _BOTTOM
    figure = Figure(figsize=(width, height))
    cells = []
    for row in range(num_rows):
        top = _TOP + row * (_CELL + text) + row // rows_a_block * _TEXT
        bounds = [_left(column, most) for column in range(num_columns)]
        cells.append(
            [
                figure.add_axes((left / width, 1 - (top + _CELL) / height, _CELL / width, _CELL / height))
                for left in bounds
            ]
        )
    return figure, cells


def _left(column: int, most: int) -> float:
    """Place a column, in inches; the mixes stand apart."""
    return _LEFT + column * (_CELL + _GAP) + _GAP * ((column >= most) + (column > most))


def _draw_block(
    rows: Sequence[Sequence[Axes]], subject: Subject, sets: Sets, number: int, most: int, *, with_maps: bool
) -> None:
    """Draw a set: the sources above, then a row a method."""
    first, k = number * sets.k, sets.k
    look = functools.partial(denormalize, mean=subject.mean, std=subject.std)
    classes = next(iter(sets.mixes.values())).source_classes[first]
    names = [readable(subject.class_names[int(label)], 14) for label in classes]
    sources = sets.images[first : first + k]
    _name_row(rows[0][0], f"k = {k}\nsources", bold=True)
    for column, source in enumerate(look(sources)):
        show_image(rows[0][column], source)
        rows[0][column].set_xlabel(names[column], fontsize=SMALL, labelpad=2)
    if with_maps:
        maps = activation.class_activation(subject.teacher, sources, classes)
        _show_maps(rows[0][most + 1 :], look(sources), maps, names)
    for row, (method, mix) in zip(rows[1:], sets.mixes.items(), strict=True):
        assert mix.teacher_logits is not None
        _name_row(row[0], method)
        probabilities = mix.teacher_logits[first].softmax(0)[classes].tolist()
        for source in range(k):
            show_mask(row[source], mix.masks[first, source])
            text = f"weight {mix.mix_weights[first, source]:.2f}"
            text += "" if with_maps else f"\np {probabilities[source]:.2f}"
            row[source].set_xlabel(text, fontsize=SMALL, labelpad=2)
        shown = look(mix.images[first : first + 1])
        show_image(row[most], shown[0])
        found = _facts(mix, first)["in_top_k"]
        row[most].set_xlabel(f"{found} of {k} in top {k}", fontsize=SMALL, labelpad=2)
        if with_maps:
            maps = activation.class_activation(
                subject.teacher, mix.images[first : first + 1].expand(k, -1, -1, -1), classes
            )
            _show_maps(
                row[most + 1 :], shown.expand(k, -1, -1, -1), maps, [f"p {value:.2f}" for value in probabilities]
            )
    for row in rows:
        for cell in row:
            if not cell.images:
                cell.axis("off")


def _show_maps(
    cells: Sequence[Axes], images: Float[Tensor, "k c h w"], maps: Float[Tensor, "k h w"], labels: Sequence[str]
) -> None:
    for cell, image, seen, label in zip(cells, images, maps, labels, strict=False):
        grey = image.mean(dim=0, keepdim=True).expand(3, -1, -1).cpu()
        heat = torch.from_numpy(ACTIVATION(seen.cpu().numpy())[..., :3]).permute(2, 0, 1).to(grey)
        show_image(cell, (1 - _SEEN) * grey + _SEEN * heat)
        cell.set_xlabel(label, fontsize=SMALL, labelpad=2)


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


def _scales(figure: Figure, *, with_maps: bool, columns: tuple[int, int]) -> None:
    width, height = figure.get_size_inches()
    spans = [(0, columns[0], SHARES, "mask: share of the source at a pixel")]
    if with_maps:
        spans.append((columns[0] + 1, columns[1], ACTIVATION, "class activation, of its largest value in the image"))
    for first, last, colours, label in spans:
        left = _left(first, columns[0])
        length = min(3.6, (last - first) * (_CELL + _GAP) - _GAP)
        axes = figure.add_axes((left / width, 0.5 / height, length / width, 0.13 / height))
        scale = figure.colorbar(ScalarMappable(Normalize(0, 1), colours), cax=axes, orientation="horizontal")
        scale.set_label(label, fontsize=SMALL)
        scale.ax.tick_params(labelsize=SMALL)


def _title(subject: Subject, head: str, *, with_maps: bool) -> str:
    maps = "Right: where the teacher finds each source's class (Grad-CAM). " if with_maps else ""
    return f"{subject.title}. {head} {maps}p: the teacher's probability of a source's class in the mix."
