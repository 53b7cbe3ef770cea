"""Figure 3: one set under several smoothing factors sigma and weights lambda_s of the sparsity."""

import argparse
from dataclasses import replace

from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from supermix_pl import MixedBatch
from supermix_pl.experiments.figures.sets import chosen_images
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

_CELL, _TEXT = 1.15, 0.2  # inches


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the figure can be asked for."""
    add = parser.add_argument
    add("--sigma", type=_reals, default=[0.0, 0.5, 1.0, 2.0], metavar="S,S", help="rows; 0,0.5,1,2 if not given")
    add(
        "--lambda-s", type=_reals, default=[0.0, 10.0, 25.0, 50.0, 100.0], metavar="L,L", help="columns; 0,10,25,50,100"
    )
    add("--set", type=int, default=0, help="which of the sets that are found, from 0; 0 if not given")
    add("--images", type=int, default=128, help="test images among which the set is looked for; 128 if not given")


def draw(subject: Subject, options: argparse.Namespace) -> Drawn:
    """Draw the figure: for each sigma the masks of the first source above the mixes.

    Raises:
        ValueError: If there is no such set.
    """
    k = max(2, subject.supermix.k)
    images = chosen_images(subject, k, options.set + 1)[options.set * k :]
    mixes = {
        (sigma, weight): replace(subject.supermix, k=k, sigma=sigma, lambda_s=weight, pairing="shift")(
            subject.teacher, images, seed=subject.seed
        )
        for sigma in options.sigma
        for weight in options.lambda_s
    }
    num_rows, num_columns = 2 * len(options.sigma), 1 + len(options.lambda_s)
    size = (1.5 + num_columns * _CELL, 1.3 + num_rows * (_CELL + _TEXT))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    for row, sigma in enumerate(options.sigma):
        for column, weight in enumerate(options.lambda_s, 1):
            _draw_mix(axes[2 * row][column], axes[2 * row + 1][column], mixes[sigma, weight], subject)
        axes[2 * row][1].set_ylabel(f"$\\sigma$ = {sigma:g}\nmask", fontsize=LABEL)
        axes[2 * row + 1][1].set_ylabel("mix", fontsize=LABEL)
    for column, weight in enumerate(options.lambda_s, 1):
        axes[0][column].set_title(f"$\\lambda_s$ = {weight:g}", fontsize=TITLE)
    first = next(iter(mixes.values()))
    _draw_sources([row[0] for row in axes], first, denormalize(images, subject.mean, subject.std), subject)
    scale = figure.colorbar(ScalarMappable(Normalize(0, 1), SHARES), ax=axes, shrink=0.4, aspect=30, pad=0.01)
    scale.set_label("share of source 1", fontsize=LABEL)
    figure.suptitle(headline(_title(subject), figure), fontsize=LABEL)
    rows = [
        {"sigma": sigma, "lambda_s": weight, "solved": bool(accepted(mix)[0]), "steps": int(mix.num_steps[0])}
        | {"mask_softness": float((mix.masks[0] * (1 - mix.masks[0])).mean())}
        for (sigma, weight), mix in mixes.items()
    ]
    return Drawn(figure=figure, numbers=rows, seeds=[subject.seed])


def _reals(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _draw_mix(mask_axes: Axes, mix_axes: Axes, mix: MixedBatch, subject: Subject) -> None:
    show_mask(mask_axes, mix.masks[0, 0])
    show_image(mix_axes, denormalize(mix.images[:1], subject.mean, subject.std)[0])
    steps = int(mix.num_steps[0])
    words = f"{steps} step{'s' * (steps != 1)}" if accepted(mix)[0] else f"unsolved, {steps} steps"
    mix_axes.set_xlabel(words, fontsize=SMALL, labelpad=2)


def _draw_sources(column: list[Axes], mix: MixedBatch, shown: Float[Tensor, "b c h w"], subject: Subject) -> None:
    classes = mix.source_classes[0].tolist()
    for number, axes in enumerate(column):
        if number >= len(classes):
            axes.axis("off")
            continue
        show_image(axes, shown[number])
        axes.set_title(f"source {number + 1}", fontsize=LABEL)
        name = readable(subject.class_names[int(classes[number])])
        axes.set_xlabel(f"{name}, weight {mix.mix_weights[0, number]:.2f}", fontsize=SMALL, labelpad=2)


def _title(subject: Subject) -> str:
    return (
        f"{subject.title}. Rows: $\\sigma$, over how many cells of the mask grid the steps are smoothed; columns: "
        "$\\lambda_s$, the weight of the sparsity; the same set and mixing weights everywhere. Below: steps until the "
        "teacher's first classes are those of the set."
    )
