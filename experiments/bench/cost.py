"""The cost of mixes: what sets took of the teacher and of time, and what that gave."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl import MixedBatch
from supermix_pl.experiments.bench.passes import timed
from supermix_pl.experiments.shared.measures import saliency_kept, saliency_placed, softness
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.mixing import DirectMixer, Mixer
from supermix_pl.solver.objective import total_variation

Batch = tuple[Float[Tensor, "_ c h w"], Int[Tensor, " _"]]
Cost = Mapping[str, float]
"""Sums over sets, those that `cost_of` names."""
NOTE = (
    "Sets of k different classes where the images have as many. Forwards, backwards: the teacher's of all rounds, "
    "solved or not, and of the natural images; what only labels the shown view is left out. A solved set: the sum over "
    "all sets, over the number of solved ones. Holds: the teacher's first k classes of a fresh view are the set's."
)


def cost_of(mix: MixedBatch, seconds: float, *, kept: float = 0.0, cap: int | None = None) -> Cost:
    """Return what a batch of mixes cost and gave.

    Args:
        mix: The mixes.
        seconds: Wall time that they took.
        kept: Share of the sources' saliency that the masks keep, summed over the sets; 0 where it was not measured.
        cap: A lower limit on steps, to tell what they would have cost under it: no set depends on the others. One that
            ends after T steps was in T + 1 rounds, each a forward; all rounds of a batch but the last end in a
            gradient, of every set that is in them.

    Returns:
        `sets` that were attempted, `solved`, `held` under the view that is shown; `steps` of all; `forwards`,
        `backwards` of the teacher; `seconds`; m(1 - m), `softness`, and total variation, `roughness` (3-norm, mean over
        sources and pixels), of the masks of solved sets; `softness_of_all`; `kept`.
    """
    steps, solved, soft = mix.num_steps, mix.solved, softness(mix).double()
    forwards, backwards = mix.teacher_forwards - mix.label_forwards, mix.teacher_backwards
    if cap is not None:
        last = min(cap, int(steps.max()))
        forwards -= int((steps - steps.clamp_max(last)).sum())
        backwards = int((steps + 1).clamp_max(last).sum())
        solved, steps = solved & (steps <= last), steps.clamp_max(last)
    return {
        "sets": len(mix),
        "solved": int(solved.sum()),
        "held": 0 if mix.holds is None else int(mix.holds.sum()),
        "steps": int(steps.sum()),
        "forwards": forwards,
        "backwards": backwards,
        "seconds": seconds,
        "softness": float(soft[solved].sum()),
        "roughness": float(total_variation(mix.masks)[solved].double().sum()),
        "softness_of_all": float(soft.sum()),
        "kept": kept,
    }


def total(costs: Sequence[Cost]) -> Cost:
    """Add up the costs of batches."""
    return {name: sum(cost[name] for cost in costs) for name in costs[0]}


def numbers(cost: Cost) -> dict[str, float | None]:
    """Return what is published of a cost; None where nothing was solved, or something was not measured."""
    sets, solved, steps = cost["sets"], cost["solved"], cost["steps"]
    totals = {name: cost[name] for name in ("steps", "forwards", "backwards")} | {"ms": 1000 * cost["seconds"]}
    return {
        "sets": sets,
        "solved": solved,
        "solved_fraction": solved / sets,
        "holds": cost["held"] / sets,
        **{f"{name}_per_solved": each / solved if solved else None for name, each in totals.items()},
        **{f"{name}_per_attempted": each / sets for name, each in totals.items()},
        "ms_per_step": totals["ms"] / steps if steps else None,
        **{f"mask_{name}": cost[name] / solved if solved else None for name in ("softness", "roughness")},
        "softness_of_all": cost["softness_of_all"] / sets,
        "saliency_kept": cost["kept"] / sets if cost["kept"] else None,
    }


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
        kept = 0.0
        if saliency is not None and isinstance(mixer, DirectMixer):
            placed = saliency_placed(mixer, subject.teacher, images, mix, saliency[number], seed)
            kept = float(placed.double().sum())
        elif saliency is not None:
            kept = float(saliency_kept(mix, saliency[number]).double().sum())
        costs.append(cost_of(mix, seconds, kept=kept))
    return total(costs)
