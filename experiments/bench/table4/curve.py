"""What a solver costs as its limit on steps grows, of one run at the largest."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench.cost import Cost
from supermix_pl.experiments.bench.passes import recorded
from supermix_pl.experiments.shared.measures import softness
from supermix_pl.solver.objective import total_variation


@dataclass(frozen=True, kw_only=True)
class Run:
    """One call of a solver; a set does not depend on the others, so it also tells what lower limits would give."""

    num_steps: Int[Tensor, " b"]  # steps of every set
    solved: Bool[Tensor, " b"]  # whether they solved it
    softness: Float[Tensor, " b"]  # mean of m(1 - m) over its masks
    roughness: Float[Tensor, " b"]  # total variation of its masks (3-norm, mean over sources and pixels)
    label_forwards: int  # forwards of a set's own image, which give its class: 0 or 1
    # from the start of the call to the end of the forward that tested the masks of 0, 1, 2, ... steps
    seconds: Sequence[float]


def run_batch(
    mixer: SuperMix,
    teacher: FrozenTeacher,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"],
    *,
    seed: tuple[int, ...],
) -> Run:
    """Mix a batch, and note how every set fared."""
    with recorded(teacher, images) as passes:
        start = time.perf_counter()
        mix = mixer(teacher, images, labels, seed=seed)
    rounds = mix.num_steps + 1
    counted = rounds + bool(mix.teacher_forwards - int(rounds.sum()))
    if int(counted.sum()) != mix.teacher_forwards:
        raise RuntimeError(f"expected a forward a round and at most one an image, got {mix.teacher_forwards}")
    return Run(
        num_steps=mix.num_steps.cpu(),
        solved=mix.solved.cpu(),
        softness=softness(mix).cpu(),
        roughness=total_variation(mix.masks).cpu(),
        label_forwards=int((counted - rounds)[0]),
        seconds=[made.end - start for made in passes[-int(rounds.max()) :]],
    )


def cost(runs: Sequence[Run], cap: int) -> Cost:
    """Sum up what the runs cost and gave under a limit of `cap` steps, at most their own.

    A set that ends after T steps was in T + 1 rounds, each a forward. All rounds of a batch but the last end in a
    gradient, of every set that is in them.
    """
    return reduce(add, (_cost_of_one(run, cap) for run in runs))


def cap_for(runs: Sequence[Run], share: float) -> int | None:
    """Return the fewest steps after which a share of the sets is solved; None if they never are."""
    steps = torch.cat([run.num_steps[run.solved] for run in runs]).sort().values
    needed = math.ceil(share * sum(len(run.num_steps) for run in runs) - 1e-9)
    return int(steps[needed - 1]) if 0 < needed <= len(steps) else None


def _cost_of_one(run: Run, cap: int) -> Cost:
    last = min(cap, len(run.seconds) - 1)
    steps = run.num_steps.clamp_max(last)
    solved = run.solved & (run.num_steps <= last)
    return Cost(
        sets=len(steps),
        solved=int(solved.sum()),
        steps=int(steps.sum()),
        forwards=int((steps + 1 + run.label_forwards).sum()),
        backwards=int((steps + 1).clamp_max(last).sum()),
        seconds=run.seconds[last],
        softness=float(run.softness[solved].double().sum()),
        roughness=float(run.roughness[solved].double().sum()),
    )
