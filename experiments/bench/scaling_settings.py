"""What the scaling is measured on: one variable at a time, away from a base that all series share."""

from dataclasses import dataclass, replace

from supermix_pl import SuperMix
from supermix_pl.experiments.bench.subject import Subject
from supermix_pl.experiments.bench.table4_cases import Case
from supermix_pl.transforms import View

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
        view: What a student sees mixes under.
        mask_size: Side of SuperMix.fast's masks; None for its own. Its sigma keeps its share of the side.
    """

    network: str
    subject: Subject
    mixer: SuperMix
    batch_size: int
    view: View
    mask_size: int | None = None

    def solvers(self) -> dict[str, SuperMix]:
        """Give the paper's solver and SuperMix.fast, which has its own masks, sigma and number of steps."""
        fast = SuperMix.fast(k=self.mixer.k, pairing=self.mixer.pairing, classes=self.mixer.classes)
        if self.mask_size is not None:
            sigma = fast.sigma * self.mask_size / max(fast.mask_grid)
            fast = replace(fast, mask_size=self.mask_size, sigma=sigma)
        return {PAPER: self.mixer, FAST: fast}


@dataclass(frozen=True, kw_only=True)
class Point:
    """A setting in a series."""

    variable: str
    value: int
    setting: Setting


def vary_main(base: Setting, ks: list[int], mask_sizes: list[int], batches: list[int]) -> list[Point]:
    """Vary k, mask size and batch size with the teacher of small images.

    A batch larger than the base's takes more images; a smaller one takes the base's images in several batches. Sigma
    keeps its share of the mask's side. Where masks are not varied each solver has its own.
    """
    mixer, points = base.mixer, []
    for k in ks:
        points.append(Point(variable="k", value=k, setting=replace(base, mixer=replace(mixer, k=k))))
    for side in mask_sizes:
        scaled = replace(mixer, mask_size=side, sigma=mixer.sigma * side / max(mixer.mask_grid))
        points.append(Point(variable="mask_size", value=side, setting=replace(base, mixer=scaled, mask_size=side)))
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
        setting = Setting(network=case.network, subject=subject, mixer=mixer, batch_size=sets, view=case.view)
        points.append(Point(variable="size", value=size, setting=setting))
    return points
