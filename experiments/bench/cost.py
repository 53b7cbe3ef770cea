"""The cost of mixes: what sets took of the teacher and of time, and what that gave."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from operator import add

from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl import MixedBatch
from supermix_pl.experiments.bench.passes import timed
from supermix_pl.experiments.shared.measures import saliency_kept, saliency_placed, softness
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.mixing import DirectMixer, Mixer
from supermix_pl.solver.objective import total_variation

Batch = tuple[Float[Tensor, "_ c h w"], Int[Tensor, " _"]]
NOTE = (
    "Sets of k different classes where the images have as many. Forwards, backwards: the teacher's of all rounds, "
    "solved or not, and of the natural images; what only labels the shown view is left out. A solved set: the sum over "
    "all sets, over the number of solved ones. Holds: the teacher's first k classes of a fresh view are the set's."
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Sums over sets."""

    sets: int = 0  # how many were attempted
    solved: int = 0  # how many met the criterion
    held: int = 0  # how many hold under the view that is shown
    steps: int = 0  # of all, those that were not solved with all of theirs
    forwards: int = 0  # images passed forward
    backwards: int = 0  # rows of input gradients
    seconds: float = 0.0  # wall time
    softness: float = 0.0  # m(1 - m) of the solved sets
    roughness: float = 0.0  # total variation of their masks (3-norm, mean over sources and pixels)
    softness_of_all: float = 0.0  # m(1 - m) of all sets; 0 where it was not measured
    kept: float = 0.0  # share of the sources' saliency that the masks of all sets keep; 0 where it was not measured

    def __add__(self, other: "Cost") -> "Cost":
        """Take both together."""
        return Cost(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    def numbers(self) -> dict[str, int | float | None]:
        """Return what is published; None where nothing was solved."""
        totals: dict[str, float] = {"steps": self.steps, "forwards": self.forwards, "backwards": self.backwards}
        totals["ms"] = 1000 * self.seconds
        return {
            "sets": self.sets,
            "solved": self.solved,
            "solved_fraction": self.solved / self.sets,
            "holds": self.held / self.sets,
            **{f"{name}_per_solved": total / self.solved if self.solved else None for name, total in totals.items()},
            **{f"{name}_per_attempted": total / self.sets for name, total in totals.items()},
            "ms_per_step": totals["ms"] / self.steps if self.steps else None,
            "mask_softness": self.softness / self.solved if self.solved else None,
            "mask_roughness": self.roughness / self.solved if self.solved else None,
            "softness_of_all": self.softness_of_all / self.sets if self.softness_of_all else None,
            "saliency_kept": self.kept / self.sets if self.kept else None,
        }


@dataclass(kw_only=True)
class Row:
    """A mixer."""

    name: str
    mixer: Mixer
    rounds: int | None = None  # most steps of a set; None of one that takes none
    costs: list[Cost] = field(default_factory=list)  # one a seed
    overheads: list[float] = field(default_factory=list)  # time of a call over that of its passes alone; one a seed

    def values(self, number: str) -> list[int | float | None]:
        """Return one number of every seed."""
        return [cost.numbers()[number] for cost in self.costs]


def cost_of(mix: MixedBatch, seconds: float, saliency: Float[Tensor, "_ h w"] | None = None) -> Cost:
    """Return what a batch of mixes cost and gave; what they keep of the images' saliency, where that is given."""
    return Cost(
        sets=len(mix),
        solved=int(mix.solved.sum()),
        held=0 if mix.holds is None else int(mix.holds.sum()),
        steps=int(mix.num_steps.sum()),
        forwards=mix.teacher_forwards - mix.label_forwards,
        backwards=mix.teacher_backwards,
        seconds=seconds,
        softness=float(softness(mix)[mix.solved].double().sum()),
        roughness=float(total_variation(mix.masks)[mix.solved].double().sum()),
        softness_of_all=float(softness(mix).double().sum()),
        kept=0.0 if saliency is None else float(saliency_kept(mix, saliency).double().sum()),
    )


def mix_batches(
    mixer: Mixer,
    subject: Subject,
    batches: Sequence[Batch],
    *,
    seed: int,
    saliency: Sequence[Float[Tensor, "_ h w"]] | None = None,
) -> Cost:
    """Mix every batch once, as a student would see it, and sum up what that cost."""
    costs = []
    for number, (images, labels) in enumerate(batches):
        given = labels if subject.supermix.takes_labels else None
        mix, seconds = timed(
            lambda i=images, g=given, n=number: mixer(subject.teacher, i, g, seed=(seed, n), view=subject.view),
            images.device,
        )
        cost = cost_of(mix, seconds, None if saliency is None else saliency[number])
        if saliency is not None and isinstance(mixer, DirectMixer):
            kept = saliency_placed(mixer, subject.teacher, images, mix, saliency[number], seed)
            cost = replace(cost, kept=float(kept.double().sum()))
        costs.append(cost)
    return reduce(add, costs)
