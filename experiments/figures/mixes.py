"""Figure 1: sources, masks and mixes of several methods beside each other, with their labels."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from supermix_pl import MixedBatch
from supermix_pl.experiments.figures.sets import CHOICE, mixed_sets
from supermix_pl.experiments.figures.style import (
    LABEL,
    SHARES,
    SMALL,
    TITLE,
    Drawn,
    headline,
    readable,
    show_image,
    show_mask,
)
from supermix_pl.experiments.shared.measures import accepted
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.pictures.tensors import denormalize

_K = 2
_HEAD = 0.6  # inches


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the figure can be asked for."""
    add = parser.add_argument
    add("--sets", type=int, default=6, help="how many pairs; 6 if not given")
    add("--images", type=int, default=256, help="test images among which pairs are looked for; 256 if not given")


def draw(subject: Subject, options: argparse.Namespace) -> Drawn:
    """Draw the figure.

    Raises:
        ValueError: If there are not enough pairs.
    """
    sets = mixed_sets(subject, _K, options.sets)
    rows = [_K * number for number in range(options.sets)]
    figure = mixes_figure(sets.images, sets.mixes, subject.class_names, sets=rows, mean=subject.mean, std=subject.std)
    head = f"{subject.title}. {CHOICE} Under a mix: the teacher's first two classes, bold if they are those of the set."
    figure.set_figheight(figure.get_figheight() + _HEAD)
    figure.suptitle(headline(head, figure), fontsize=LABEL)
    numbers = [
        {"method": name, "solved": accepted(mix)[rows].tolist(), "steps": mix.num_steps[rows].tolist()}
        for name, mix in sets.mixes.items()
    ]
    return Drawn(figure=figure, numbers=numbers, seeds=[subject.seed])


def draw_mixes(
    images: Float[Tensor, "b c h w"],
    mixes: Mapping[str, MixedBatch],
    class_names: Sequence[str],
    path: str | Path,
    *,
    sets: Sequence[int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Path:
    """Draw `mixes_figure` into a file, .png or .pdf."""
    figure = mixes_figure(images, mixes, class_names, sets=sets, mean=mean, std=std)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path


def mixes_figure(
    images: Float[Tensor, "b c h w"],
    mixes: Mapping[str, MixedBatch],
    class_names: Sequence[str],
    *,
    sets: Sequence[int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Figure:
    """Draw one row a set of two sources: the sources, then mask and mix of every method.

    Under a source stands its class; under a mix stand the teacher's two likeliest classes of it, with probabilities, in
    bold where they are the classes of the set.

    Args:
        images: The natural batch, normalised.
        mixes: Mixes of that batch by the name of the method; all with the same pairs of sources and labelled by the
            teacher.
        class_names: Names in the order of the classes.
        sets: Rows of the batch to show.
        mean: What the images are normalised with; None if they are in [0, 1].
        std: Likewise.

    Raises:
        ValueError: If the methods mixed different pairs, or a mix has no teacher.
    """
    first = next(iter(mixes.values()))
    for name, mix in mixes.items():
        if mix.teacher_logits is None or mix.source_indices.shape[1] != _K:
            raise ValueError(f"expected mixes of two sources, labelled by a teacher, got others from {name}")
        if not mix.source_indices.equal(first.source_indices):
            raise ValueError(f"expected the same pairs of sources for all methods, got others from {name}")
    columns = _K + 2 * len(mixes)
    figure = Figure(figsize=(1.32 * columns + 0.6, 1.62 * len(sets) + 0.9), layout="constrained")
    axes = figure.subplots(len(sets), columns, squeeze=False)
    shown = denormalize(images, mean, std)
    for row, index in zip(axes, sets, strict=True):
        for position in range(_K):
            source = int(first.source_indices[index, position])
            show_image(row[position], shown[source])
            name = class_names[int(first.source_classes[index, position])]
            row[position].set_xlabel(readable(name), fontsize=SMALL)
        for number, mix in enumerate(mixes.values()):
            mask_axes, mix_axes = row[2 + 2 * number : 4 + 2 * number]
            show_mask(mask_axes, mix.masks[index, 0])
            weights = mix.mix_weights[index].tolist()
            mask_axes.set_xlabel(f"weights {weights[0]:.2f}, {weights[1]:.2f}", fontsize=SMALL)
            show_image(mix_axes, denormalize(mix.images[index : index + 1], mean, std)[0])
            _label(mix_axes, mix, index, class_names)
    titles = ["source 1", "source 2", *(f"{name}\n{part}" for name in mixes for part in ("mask of 1", "mix"))]
    for title, top in zip(titles, axes[0], strict=True):
        top.set_title(title, fontsize=TITLE)
    scale = figure.colorbar(
        ScalarMappable(Normalize(0, 1), SHARES), ax=axes, shrink=0.5, pad=0.01, aspect=30, label="share of source 1"
    )
    scale.ax.tick_params(labelsize=LABEL)
    return figure


def _label(axes: Axes, mix: MixedBatch, index: int, class_names: Sequence[str]) -> None:
    """Write the teacher's two likeliest classes under a mix."""
    assert mix.teacher_logits is not None
    top = mix.teacher_logits[index].softmax(0).topk(_K)
    found = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    text = "\n".join(f"{readable(class_names[int(label)])} {probability:.2f}" for probability, label in found)
    weight = "bold" if bool(accepted(mix)[index]) else "normal"
    axes.set_xlabel(text, fontsize=SMALL, fontweight=weight)
