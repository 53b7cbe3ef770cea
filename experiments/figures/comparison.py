"""Figure 4: sources, masks and mixes of every method for several k."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from supermix_pl import CutMix, MixedBatch, MixUp
from supermix_pl.experiments.figures import style
from supermix_pl.experiments.shared.measures import accepted
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.mixing import Mixer
from supermix_pl.pictures.tensors import denormalize

CHOICE = "Sets: the first among randomly drawn test images that the teacher recognises, of different classes each."
_CELL, _NAMES, _ROW, _HEAD, _FOOT, _NARROWEST = 1.02, 1.0, 1.4, 0.7, 0.8, 6.5  # inches


@dataclass(frozen=True, kw_only=True, eq=False)
class Sets:
    """Sets of k images, one after the other, and how each method mixes them."""

    k: int  # sources in a set
    images: Float[Tensor, "b c h w"]  # normalised; rows i k to (i + 1) k - 1 are set i
    mixes: dict[str, MixedBatch]  # by method, of all these rows; row i k is the mix of set i


def mixed(subject: Subject, k: int, images: Float[Tensor, "b c h w"]) -> Sets:
    """Mix images with each method: the same sources, weights from the same distribution."""
    supermix = subject.supermix
    mixers: dict[str, Mixer] = {
        "SuperMix": replace(supermix, k=k, pairing="shift"),
        "CutMix": CutMix(k=k, alpha=supermix.alpha),
        "MixUp": MixUp(k=k, alpha=supermix.alpha),
    }
    mixes = {name: mixer(subject.teacher, images, seed=subject.seed) for name, mixer in mixers.items()}
    return Sets(k=k, images=images, mixes=mixes)


def chosen_images(subject: Subject, k: int, count: int) -> Float[Tensor, "b c h w"]:
    """Choose the images of `count` sets; see `CHOICE`.

    Raises:
        ValueError: If there are not as many.
    """
    if k < 2 or count < 1:
        raise ValueError(f"expected k >= 2 and at least one set, got k = {k} and {count} sets")
    with torch.no_grad():
        recognised = (subject.teacher(subject.images).argmax(dim=1) == subject.labels).nonzero().squeeze(1).tolist()
    labels = subject.labels.tolist()
    rows: list[int] = []
    while len(rows) < k * count:
        present = {labels[row] for row in rows[len(rows) - len(rows) % k :]}
        row = next((row for row in recognised if row not in rows and labels[row] not in present), None)
        if row is None:
            raise ValueError(
                f"expected {count} sets of {k} different classes, got {len(recognised)} images that the teacher "
                f"recognises of {len(labels)}; give a better teacher, more --images or fewer --sets"
            )
        rows.append(row)
    return subject.images[rows]


def draw(subject: Subject, ks: Sequence[int], sets: int = 1) -> style.Drawn:
    """Draw the figure: so many sets of each k."""
    chosen = [mixed(subject, k, chosen_images(subject, k, sets)) for k in ks]
    return draw_sets(subject, chosen, head=CHOICE)


def draw_sets(subject: Subject, chosen: Sequence[Sets], *, head: str = "") -> style.Drawn:
    """Draw sets that are chosen and mixed: a row a number of sources, sets beside each other."""
    most, num_rows = max(sets.k for sets in chosen), 1 + len(chosen[0].mixes)
    count = max(len(sets.images) // sets.k for sets in chosen)
    width = max(count * (_NAMES + (most + 1) * _CELL), _NARROWEST)
    figure = Figure(figsize=(width, _HEAD + len(chosen) * num_rows * _ROW + _FOOT))
    heights = (_HEAD, len(chosen) * num_rows * _ROW, _FOOT)
    top, middle, foot = figure.subfigures(3, 1, squeeze=False, height_ratios=heights)[:, 0]
    blocks = middle.subfigures(len(chosen), count, squeeze=False)
    for row, (line, sets) in enumerate(zip(blocks, chosen, strict=True)):
        for number in range(len(sets.images) // sets.k):
            cells = line[number].subplots(num_rows, most + 1, squeeze=False).tolist()
            line[number].subplots_adjust(_NAMES / (width / count), 0.1, 0.99, 0.96, wspace=0.15, hspace=0.6)
            _draw_block(cells, subject, sets, number, most)
            for column, cell in enumerate(cells[0] if row == 0 else ()):
                cell.set_title(f"mask {column + 1}" if column < most else "mix", fontsize=style.TITLE)
    _scale(foot)
    told = f"{subject.title}. {head} p: the teacher's probability of a source's class in the mix."
    top.text(0.5, 0.9, style.headline(told, figure), ha="center", va="top", fontsize=style.LABEL)
    rows = [
        {"k": sets.k, "set": number, "method": name, **_facts(mix, number * sets.k)}
        for sets in chosen
        for number in range(len(sets.images) // sets.k)
        for name, mix in sets.mixes.items()
    ]
    return style.Drawn(figure=figure, numbers=rows, seeds=[subject.seed])


def _draw_block(rows: Sequence[Sequence[Axes]], subject: Subject, sets: Sets, number: int, most: int) -> None:
    first, k = number * sets.k, sets.k
    look = functools.partial(denormalize, mean=subject.mean, std=subject.std)
    classes = next(iter(sets.mixes.values())).source_classes[first]
    _name_row(rows[0][0], f"k = {k}\nsources", bold=True)
    for cell, source, label in zip(rows[0], look(sets.images[first : first + k]), classes, strict=False):
        style.show_image(cell, source)
        cell.set_xlabel(style.readable(subject.class_names[int(label)], 14), fontsize=style.SMALL, labelpad=2)
    for row, (method, mix) in zip(rows[1:], sets.mixes.items(), strict=True):
        assert mix.teacher_logits is not None
        _name_row(row[0], method)
        probabilities = mix.teacher_logits[first].softmax(0)[classes].tolist()
        for source in range(k):
            style.show_mask(row[source], mix.masks[first, source])
            text = f"weight {mix.mix_weights[first, source]:.2f}\np {probabilities[source]:.2f}"
            row[source].set_xlabel(text, fontsize=style.SMALL, labelpad=2)
        style.show_image(row[most], look(mix.images[first : first + 1])[0])
        found = _facts(mix, first)["in_top_k"]
        row[most].set_xlabel(f"{found} of {k} in top {k}", fontsize=style.SMALL, labelpad=2)
    for row in rows:
        for cell in row:
            if not cell.images:
                cell.axis("off")


def _name_row(cell: Axes, text: str, *, bold: bool = False) -> None:
    weight = "bold" if bold else "normal"
    cell.text(
        -0.12, 0.5, text, transform=cell.transAxes, ha="right", va="center", fontsize=style.TITLE, fontweight=weight
    )
    style.bare(cell)


def _facts(mix: MixedBatch, row: int) -> dict[str, float]:
    assert mix.teacher_logits is not None
    classes = set(mix.source_classes[row].tolist())
    top = set(mix.teacher_logits[row].topk(min(len(classes), mix.teacher_logits.shape[1])).indices.tolist())
    return {"in_top_k": len(classes & top), "solved": bool(accepted(mix)[row]), "steps": int(mix.num_steps[row])}


def _scale(foot: SubFigure) -> None:
    axes = foot.add_axes((0.2, 0.7, 0.6, 0.15))
    scale = foot.colorbar(ScalarMappable(Normalize(0, 1), style.SHARES), cax=axes, orientation="horizontal")
    scale.set_label("mask: share of the source at a pixel", fontsize=style.SMALL)
    scale.ax.tick_params(labelsize=style.SMALL)
