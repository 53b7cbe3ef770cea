"""Figure 4: sources, masks and mixes of every method for several k."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from supermix_pl import CutMix, MixedBatch, MixUp
from supermix_pl.experiments.figures import style
from supermix_pl.experiments.shared.measures import accepted
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.mixing import Mixer
from supermix_pl.pictures.tensors import denormalize

CHOICE = "Sets: the first among randomly drawn test images that the teacher recognises, of different classes each."
_CELL, _NAMES, _ROW, _AROUND, _NARROWEST = 1.02, 1.0, 1.4, 1.5, 6.5  # inches
_SHARES = mpl.colormaps["cividis"]  # even for all kinds of sight


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
    """Draw sets that are chosen and mixed: a block of rows for each number of sources, sets beside each other."""
    columns, rows = max(sets.k for sets in chosen) + 1, 1 + len(chosen[0].mixes)
    count = max(len(sets.images) // sets.k for sets in chosen)
    width = max(count * (_NAMES + columns * _CELL), _NARROWEST)
    figure = Figure(figsize=(width, len(chosen) * rows * _ROW + _AROUND), layout="constrained")
    bare = {"xticks": [], "yticks": []}
    cells = figure.subplots(len(chosen) * rows, count * columns, squeeze=False, subplot_kw=bare)
    for block, sets in enumerate(chosen):
        for number in range(len(sets.images) // sets.k):
            own = cells[block * rows : (block + 1) * rows, number * columns : (number + 1) * columns]
            _draw_block(own, subject, sets, number)
    for cell in cells.flat:
        if not cell.images:
            cell.axis("off")
    scale = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _SHARES), ax=cells, location="bottom", shrink=0.6, aspect=30, pad=0.02
    )
    scale.set_label("mask: share of the source at a pixel", fontsize=style.SMALL)
    scale.ax.tick_params(labelsize=style.SMALL)
    told = f"{subject.title}. {head} p: the teacher's probability of a source's class in the mix."
    figure.suptitle(style.headline(told, figure), fontsize=style.LABEL)
    facts = [
        {"k": sets.k, "set": number, "method": name, **_facts(mix, number * sets.k)}
        for sets in chosen
        for number in range(len(sets.images) // sets.k)
        for name, mix in sets.mixes.items()
    ]
    return style.Drawn(figure=figure, numbers=facts, seeds=[subject.seed])


def _draw_block(cells: np.ndarray, subject: Subject, sets: Sets, number: int) -> None:
    """Draw the sources of a set above the masks and the mix of every method."""
    first, k = number * sets.k, sets.k

    def show(cell: Axes, image: Float[Tensor, "c h w"]) -> None:
        pixels = denormalize(image[None], subject.mean, subject.std)[0]
        cell.imshow(pixels.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")

    classes = next(iter(sets.mixes.values())).source_classes[first]
    _name_row(cells[0, 0], f"k = {k}\nsources")
    for column in range(k):
        show(cells[0, column], sets.images[first + column])
        name = style.readable(subject.class_names[int(classes[column])], 14)
        cells[0, column].set_xlabel(name, fontsize=style.SMALL)
    for row, (method, mix) in zip(cells[1:], sets.mixes.items(), strict=True):
        assert mix.teacher_logits is not None
        _name_row(row[0], method)
        probabilities = mix.teacher_logits[first].softmax(0)[classes].tolist()
        for column in range(k):
            row[column].imshow(mix.masks[first, column].detach().cpu().numpy(), cmap=_SHARES, vmin=0, vmax=1)
            text = f"weight {mix.mix_weights[first, column]:.2f}\np {probabilities[column]:.2f}"
            row[column].set_xlabel(text, fontsize=style.SMALL)
        show(row[-1], mix.images[first])
        row[-1].set_xlabel(f"{_facts(mix, first)['in_top_k']} of {k} in top {k}", fontsize=style.SMALL)


def _name_row(cell: Axes, name: str) -> None:
    cell.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=style.TITLE)


def _facts(mix: MixedBatch, row: int) -> dict[str, float]:
    assert mix.teacher_logits is not None
    classes = set(mix.source_classes[row].tolist())
    top = set(mix.teacher_logits[row].topk(min(len(classes), mix.teacher_logits.shape[1])).indices.tolist())
    return {"in_top_k": len(classes & top), "solved": bool(accepted(mix)[row]), "steps": int(mix.num_steps[row])}
