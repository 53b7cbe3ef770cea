"""Sources, masks and mixes of several methods beside each other, with their labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from supermix_pl import MixedBatch
from supermix_pl.visualize import denormalize

_TITLE, _LABEL = 11, 8
_SHARES = mpl.colormaps["cividis"]


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
    """Draw one row a set of two sources: the sources, then mask and mix of every method.

    Under a source stands its class; under a mix stand the teacher's two likeliest classes of it, with probabilities, in
    bold where they are the classes of the set.

    Args:
        images: The natural batch, normalised.
        mixes: Mixes of that batch by the name of the method; all with the same pairs of sources and labelled by the
            teacher.
        class_names: Names in the order of the classes.
        path: Where the picture goes, .png or .pdf.
        sets: Rows of the batch to show.
        mean: What the images are normalised with; None if they are in [0, 1].
        std: Likewise.

    Raises:
        ValueError: If the methods mixed different pairs, or a mix has no teacher.
    """
    first = next(iter(mixes.values()))
    for name, mix in mixes.items():
        if mix.teacher_logits is None or mix.source_indices.shape[1] != 2:
            raise ValueError(f"expected mixes of two sources, labelled by a teacher, got others from {name}")
        if not mix.source_indices.equal(first.source_indices):
            raise ValueError(f"expected the same pairs of sources for all methods, got others from {name}")
    columns = 2 + 2 * len(mixes)
    figure = Figure(figsize=(1.32 * columns + 0.6, 1.62 * len(sets) + 0.9), layout="constrained")
    axes = figure.subplots(len(sets), columns, squeeze=False)
    shown = denormalize(images, mean, std)
    for row, index in zip(axes, sets, strict=True):
        for position in range(2):
            source = int(first.source_indices[index, position])
            _show(row[position], shown[source])
            row[position].set_xlabel(class_names[int(first.source_classes[index, position])], fontsize=_LABEL)
        for number, mix in enumerate(mixes.values()):
            mask_axes, mix_axes = row[2 + 2 * number : 4 + 2 * number]
            mask_axes.imshow(np.asarray(mix.masks[index, 0].cpu()), cmap=_SHARES, vmin=0, vmax=1)
            weights = mix.mix_weights[index].tolist()
            mask_axes.set_xlabel(f"weights {weights[0]:.2f}, {weights[1]:.2f}", fontsize=_LABEL)
            _show(mix_axes, denormalize(mix.images[index : index + 1], mean, std)[0])
            _label(mix_axes, mix, index, class_names)
    titles = ["source 1", "source 2", *(f"{name}\n{part}" for name in mixes for part in ("mask of 1", "mix"))]
    for title, top in zip(titles, axes[0], strict=True):
        top.set_title(title, fontsize=_TITLE)
    for cell in axes.flat:
        cell.set_xticks([])
        cell.set_yticks([])
    scale = ScalarMappable(Normalize(0, 1), _SHARES)
    figure.colorbar(scale, ax=axes, shrink=0.5, label="share of source 1", pad=0.01, aspect=30)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path


def _show(axes: Axes, image: Float[Tensor, "c h w"]) -> None:
    axes.imshow(np.asarray(image.permute(1, 2, 0).cpu()), interpolation="nearest")


def _label(axes: Axes, mix: MixedBatch, index: int, class_names: Sequence[str]) -> None:
    """Write the teacher's two likeliest classes under a mix."""
    assert mix.teacher_logits is not None
    top = mix.teacher_logits[index].softmax(0).topk(2)
    found = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    text = "\n".join(f"{class_names[label]} {probability:.2f}" for probability, label in found)
    weight = "bold" if bool(mix.solved[index]) else "normal"
    axes.set_xlabel(text, fontsize=_LABEL, fontweight=weight)
