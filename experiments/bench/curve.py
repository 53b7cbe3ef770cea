"""What a solver costs as its limit on steps grows: sets solved, teacher passes and time, of one run at the largest."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench.acceptance import set_passes
from supermix_pl.experiments.bench.passes import synchronize
from supermix_pl.solver.objective import total_variation


class ClockedTeacher(FrozenTeacher):
    """A teacher that notes when each of its forwards ends; give it one that takes images as they are.

    Args:
        teacher: Whose module, options and private copy it has.
    """

    def __init__(self, teacher: FrozenTeacher) -> None:
        super().__init__(teacher.module)
        self.__dict__.update(teacher.__dict__)
        self.ends: list[float] = []

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Give the logits, and note the time when the device has them."""
        logits = super().__call__(images)
        synchronize(images.device)
        self.ends.append(time.perf_counter())
        return logits


@dataclass(frozen=True, kw_only=True)
class Run:
    """One call of a solver.

    A set does not depend on the others of its batch, so that the call also tells what any lower limit would have given.

    Args:
        num_steps: Steps of every set.
        solved: Whether they solved it.
        softness: Mean of m(1 - m) over its masks.
        roughness: Total variation of its masks (3-norm, mean over sources and pixels).
        label_forwards: Forwards of a set's own image, which give its class: 0 or 1.
        seconds: From the start of the call to the end of the forward that tested the masks of 0, 1, 2, ... steps.
    """

    num_steps: Int[Tensor, " b"]
    solved: Bool[Tensor, " b"]
    softness: Float[Tensor, " b"]
    roughness: Float[Tensor, " b"]
    label_forwards: int
    seconds: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What all sets cost under a limit on steps, and what that gave.

    Args:
        cap: The limit.
        sets: Sets that were attempted.
        solved: How many of them were solved.
        set_steps: Steps, summed over the sets; an unsolved one counts those up to the limit.
        forwards: Images passed forward, label forwards included.
        backwards: Rows of input gradients.
        seconds: Wall time.
        softness: Mean of m(1 - m) over the solved sets; NaN without any.
        roughness: Mean of their total variation, likewise.
    """

    cap: int
    sets: int
    solved: int
    set_steps: int
    forwards: int
    backwards: int
    seconds: float
    softness: float
    roughness: float

    def numbers(self) -> dict[str, int | float | None]:
        """Give what is published; None where nothing was solved."""
        totals: dict[str, float] = {"steps": self.set_steps, "forwards": self.forwards, "backwards": self.backwards}
        totals["ms"] = 1000 * self.seconds
        return {
            "cap": self.cap,
            "sets": self.sets,
            "solved": self.solved,
            "solved_fraction": self.solved / self.sets,
            **{f"{name}_per_solved": total / self.solved if self.solved else None for name, total in totals.items()},
            **{f"{name}_per_attempted": total / self.sets for name, total in totals.items()},
            "ms_per_step": totals["ms"] / self.set_steps if self.set_steps else None,
            "mask_softness": self.softness if self.solved else None,
            "mask_roughness": self.roughness if self.solved else None,
        }


def run_batch(
    mixer: SuperMix,
    teacher: FrozenTeacher,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"],
    *,
    seed: tuple[int, ...],
) -> Run:
    """Mix a batch, and note how every set fared.

    Args:
        mixer: One whose sets end at the first test that they pass.
        teacher: Takes images as they are.
        images: A batch.
        labels: Their classes.
        seed: Of the mixer.
    """
    clocked = ClockedTeacher(teacher)
    synchronize(images.device)
    start = time.perf_counter()
    mix = mixer(clocked, images, labels, seed=seed)
    forwards, _ = set_passes(mix, mixer)  # notices a solver that makes other passes than those that are counted here
    rounds = mix.num_steps + 1
    return Run(
        num_steps=mix.num_steps.cpu(),
        solved=mix.solved.cpu(),
        softness=(mix.masks * (1 - mix.masks)).mean(dim=(1, 2, 3)).cpu(),
        roughness=total_variation(mix.masks).cpu(),
        label_forwards=int((forwards - rounds)[0]),
        seconds=[end - start for end in clocked.ends[-int(rounds.max()) :]],
    )


def cost(runs: Sequence[Run], cap: int) -> Cost:
    """Sum up what the runs cost and gave under a limit of `cap` steps, at most their own.

    A set that ends after T steps was in T + 1 rounds, each a forward. All rounds of a batch but the last end in a
    gradient, of every set that is in them.
    """
    parts = [_cost_of_one(run, cap) for run in runs]
    solved = sum(part.solved for part in parts)
    return Cost(
        cap=cap,
        sets=sum(part.sets for part in parts),
        solved=solved,
        set_steps=sum(part.set_steps for part in parts),
        forwards=sum(part.forwards for part in parts),
        backwards=sum(part.backwards for part in parts),
        seconds=sum(part.seconds for part in parts),
        softness=sum(part.softness for part in parts) / solved if solved else math.nan,
        roughness=sum(part.roughness for part in parts) / solved if solved else math.nan,
    )


def cap_for(runs: Sequence[Run], share: float) -> int | None:
    """Give the fewest steps after which a share of the sets is solved; None if they never are."""
    steps = torch.cat([run.num_steps[run.solved] for run in runs]).sort().values
    needed = math.ceil(share * sum(len(run.num_steps) for run in runs) - 1e-9)
    return int(steps[needed - 1]) if 0 < needed <= len(steps) else None


def _cost_of_one(run: Run, cap: int) -> Cost:
    """Do so for one run, with sums in place of the means."""
    last = min(cap, len(run.seconds) - 1)
    steps = run.num_steps.clamp_max(last)
    solved = run.solved & (run.num_steps <= last)
    return Cost(
        cap=cap,
        sets=len(steps),
        solved=int(solved.sum()),
        set_steps=int(steps.sum()),
        forwards=int((steps + 1 + run.label_forwards).sum()),
        backwards=int((steps + 1).clamp_max(last).sum()),
        seconds=run.seconds[last],
        softness=float(run.softness[solved].double().sum()),
        roughness=float(run.roughness[solved].double().sum()),
    )
