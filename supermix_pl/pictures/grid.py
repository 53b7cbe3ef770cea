"""What a picture of mixes shows: sources, masks and mix of some sets, with classes and weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from supermix_pl.mixing import MixedBatch
from supermix_pl.pictures.tensors import displayable

_LONGEST_NAME = 16
_CELL, _DPI, _FONT = 1.45, 100, 7.5


@dataclass(frozen=True)
class ShownSets:
    """Some sets on the host, their images in [0, 1] with 1 or 3 channels."""

    sources: Float[Tensor, "b k c h w"] | None  # None where they are not of this batch
    masks: Float[Tensor, "b k s t"] | None  # None where they are not kept
    mixes: Float[Tensor, "b c height width"]  # as the student sees them
    names: list[list[str]]  # class and weight of every source
    seen: list[list[str]]  # the teacher's likeliest classes of every mix, with probabilities; empty without a teacher
    good: list[bool]  # whether these are the classes of the sources: holds, or solved where no view tells


def sets_to_show(
    images: Float[Tensor, "b c h w"],
    mix: MixedBatch,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    count: int = 4,
) -> ShownSets:
    """Bring the first sets of a batch, `count` at most, to the host; this waits for the device.

    Images are natural and normalised with mean and std, if these are known; without names classes are numbers.
    """
    rows = slice(count)
    indices = mix.source_indices[rows].cpu()
    groups = [mix.images[rows].cpu()]
    if bool((indices >= 0).all()):
        groups.append(images[indices.flatten().to(images.device)].cpu())
    mixes, *others = displayable(groups, mean, std)
    sources = others[0].unflatten(0, indices.shape) if others else None
    classes, weights = mix.source_classes[rows].tolist(), mix.mix_weights[rows].tolist()
    pairs = [list(zip(*row, strict=True)) for row in zip(classes, weights, strict=True)]
    names = [[f"{_name(label, class_names)} {weight:.2f}" for label, weight in row] for row in pairs]
    return ShownSets(
        sources=sources,
        masks=mix.masks[rows].float().cpu() if mix.masks.numel() else None,
        mixes=mixes,
        names=names,
        seen=_seen(mix.teacher_logits, indices.shape, class_names),
        good=(mix.solved if mix.holds is None else mix.holds)[rows].tolist(),
    )


def titled_grid(sets: ShownSets) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a set a row with titles and a scale of the masks."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    count, k = len(sets.names), len(sets.names[0])
    num_sources, num_masks = (0 if part is None else k for part in (sets.sources, sets.masks))
    columns = num_sources + num_masks + 1
    titles = 0.14 * (k + 1) + 0.1  # inches of k + 1 lines
    tall = _CELL * min(max(sets.mixes.shape[2] / sets.mixes.shape[3], 0.5), 2)  # as the images are
    width, height = max(2.0, _CELL * columns) + (0.9 if num_masks else 0.1), (tall + titles) * count + 0.05
    figure = Figure((width, height), dpi=_DPI)  # laid out by hand: matplotlib's own layouts take a second
    canvas = FigureCanvasAgg(figure)
    cells = figure.subplots(count, columns, squeeze=False)
    grey, shares = colormaps["gray"], colormaps["cividis"]
    for row, line in enumerate(cells):
        sources, masks = (() if part is None else part[row] for part in (sets.sources, sets.masks))
        shown = [(_pixels(source), grey, name) for source, name in zip(sources, sets.names[row], strict=False)]
        for number, (mask, name) in enumerate(zip(masks, sets.names[row], strict=False), 1):
            shown.append((mask.numpy(), shares, f"mask {number}" if num_sources else name))
        titles_of_mix = ["mix:", *sets.seen[row]] if sets.seen else ["mix"]
        shown.append((_pixels(sets.mixes[row]), grey, "\n".join(titles_of_mix if shown else sets.names[row])))
        for cell, (pixels, colours, title) in zip(line, shown, strict=True):
            cell.imshow(pixels, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
            cell.set_title(title, fontsize=_FONT)
        line[-1].title.set_fontweight("bold" if sets.good[row] else "normal")
    for cell in cells.flat:
        cell.set_axis_off()
    right = 1 - (0.9 if num_masks else 0.1) / width
    figure.subplots_adjust(0.1 / width, 0.05 / height, right, 1 - titles / height, wspace=0.06, hspace=titles / tall)
    if num_masks:
        scale = ScalarMappable(Normalize(0, 1), shares)
        bar = figure.colorbar(scale, cax=figure.add_axes((1 - 0.7 / width, 0.3, 0.12 / width, 0.4)))
        bar.set_label("mask: share of the source", fontsize=_FONT)
        bar.ax.tick_params(labelsize=_FONT)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _seen(
    logits: Float[Tensor, "b n"] | None, shape: Sequence[int], class_names: Sequence[str] | None
) -> list[list[str]]:
    if logits is None:
        return []
    count, k = shape
    top = logits[:count].float().softmax(1).topk(min(k, logits.shape[1]))
    pairs = [zip(*row, strict=True) for row in zip(top.indices.tolist(), top.values.tolist(), strict=True)]
    return [[f"{_name(label, class_names)} {value:.2f}" for label, value in row] for row in pairs]


def _name(label: int, class_names: Sequence[str] | None) -> str:
    if class_names is None or not 0 <= label < len(class_names):
        return f"class {label}"
    name = str(class_names[label])
    name = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return name.replace("$", r"\$")


def _pixels(image: Float[Tensor, "c h w"]) -> np.ndarray:
    """Return an image of shape (h, w) for one channel, else (h, w, 3)."""
    return image.permute(1, 2, 0).squeeze(2).numpy()
