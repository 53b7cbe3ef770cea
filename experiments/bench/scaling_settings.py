"""What the scaling is measured on: one variable at a time, away from a base that all series share."""

from dataclasses import dataclass, replace

from supermix_pl import SuperMix
from supermix_pl.experiments.bench.subject import Subject
from supermix_pl.experiments.bench.table4_cases import Case

PAPER, FAST = "paper", "fast"
VARIABLES = {
    "k": "sources in a set, k",
    "size": "image side, pixels",
    "mask_size": "mask side, cells",
    "batch": "batch",
}
"""What is varied, and its name on an axis."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Sets to solve, and how.

    Args:
        network: The teacher's name.
        subject: Teacher and images.
        mixer: The paper's solver.
        batch_size: Sets that are solved together.
    """

    network: str
    subject: Subject
    mixer: SuperMix
    batch_size: int

    def solvers(self) -> dict[str, SuperMix]:
        """Give the paper's solver and SuperMix.fast, which has its own sigma."""
        mixer = self.mixer
        shared = {"k": mixer.k, "mask_size": mixer.mask_size, "max_steps": mixer.max_steps}
        fast = SuperMix.fast(**shared, pairing=mixer.pairing, classes=mixer.classes)
        return {PAPER: mixer, FAST: fast}


@dataclass(frozen=True, kw_only=True)
class Point:
    """A setting in a series."""

    variable: str
    value: int
    setting: Setting


def vary_main(base: Setting, ks: list[int], mask_sizes: list[int], batches: list[int]) -> list[Point]:
    """Vary k, mask size and batch size with the teacher of small images.

    A batch larger than the base's takes more images; a smaller one takes the base's images in several batches. Sigma
    keeps its share of the mask's side.
    """
    mixer, points = base.mixer, []
    for k in ks:
        points.append(Point(variable="k", value=k, setting=replace(base, mixer=replace(mixer, k=k))))
    for side in mask_sizes:
        scaled = replace(mixer, mask_size=side, sigma=mixer.sigma * side / max(mixer.mask_grid))
        points.append(Point(variable="mask_size", value=side, setting=replace(base, mixer=scaled)))
    for batch in batches:
        subject = replace(base.subject, num_images=max(batch, base.subject.num_images))
        points.append(Point(variable="batch", value=batch, setting=replace(base, subject=subject, batch_size=batch)))
    return points


def vary_size(case: Case, sizes: list[int], sets: int, max_steps: int) -> list[Point]:
    """Vary the size of the images with a teacher that takes several."""
    mixer = replace(case.mixer, max_steps=max_steps)
    points = []
    for size in sizes:
        subject = replace(case.subject, size=size, crop=None, num_images=sets)
        setting = Setting(network=case.network, subject=subject, mixer=mixer, batch_size=sets)
        points.append(Point(variable="size", value=size, setting=setting))
    return points
