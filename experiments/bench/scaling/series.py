"""What the scaling is measured on: one variable at a time, away from a setting that all series share."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch.nn.functional import interpolate

from supermix_pl import SuperMix
from supermix_pl.experiments.bench.cost import Batch, Cost
from supermix_pl.experiments.shared.mixers import FAST, PAPER, fast
from supermix_pl.experiments.shared.subject import Subject

VARIABLES = {
    "k": "sources in a set, k",
    "mask_size": "mask side, cells",
    "batch": "sets solved together",
    "size": "image side, pixels",
}
"""What is varied, and its name on an axis."""


@dataclass(kw_only=True)
class Point:
    """A mixer in a setting.

    Args:
        variable: What its series varies.
        value: Of it.
        name: Of the mixer.
        mixer: Solves.
        batch_size: Sets that are solved together.
        sets: How many, each of another image.
        size: Side of the images in pixels; None for their own.
        peak: Bytes that tensors hold at most, weights and batch included.
        costs: One a seed.
    """

    variable: str
    value: int
    name: str
    mixer: SuperMix
    batch_size: int
    sets: int
    size: int | None = None
    peak: int = 0
    costs: list[Cost] = field(default_factory=list)

    def batches(self, subject: Subject) -> list[Batch]:
        """Return the subject's first images in batches, in the size that is asked for."""
        images = subject.images[: self.sets]
        if self.size is not None:
            images = interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        labels = subject.labels[: self.sets]
        return list(zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True))

    def values(self, number: str) -> list[int | float | None]:
        """Return one number of every seed."""
        return [cost.numbers()[number] for cost in self.costs]


def points(paper: SuperMix, variable: str, values: Sequence[int], sets: int) -> list[Point]:
    """Vary one variable.

    A batch larger than the shared setting's takes more images; a smaller one takes its images in several batches. Sigma
    keeps its share of the mask's side. Where masks are not varied each solver has its own.

    Args:
        paper: The paper's solver in the setting that all series share.
        variable: A name in `VARIABLES`.
        values: Of it.
        sets: Of the shared setting, solved together.
    """
    found = []
    for value in values:
        solver = replace(paper, k=value) if variable == "k" else paper
        solvers = {PAPER: solver, FAST: fast(solver, pairing=solver.pairing)}
        if variable == "mask_size":
            solvers = {name: _with_masks(mixer, value) for name, mixer in solvers.items()}
        batch = value if variable == "batch" else sets
        size = value if variable == "size" else None
        for name, mixer in solvers.items():
            shared = {"variable": variable, "value": value, "size": size}
            found.append(Point(name=name, mixer=mixer, batch_size=batch, sets=max(batch, sets), **shared))
    return found


def _with_masks(mixer: SuperMix, side: int) -> SuperMix:
    return replace(mixer, mask_size=side, sigma=mixer.sigma * side / max(mixer.mask_grid))
