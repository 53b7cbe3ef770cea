"""Rows of the front: a solver on some sets, what it cost and what its mixes are worth."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from supermix_pl import MixedBatch, SuperMix
from supermix_pl.experiments.bench.curve import Run, cost
from supermix_pl.solver.objective import divergence


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What the mixes of a batch are worth, a value a set.

    Args:
        kept: Share of the sources' saliency that the masks keep; see `saliency_kept`.
        divergence: KL(soft target || teacher's prediction of the mix).
        heaviest: Whether the teacher's first class of the mix is that of the source of the largest weight.
    """

    kept: Float[Tensor, " b"]
    divergence: Float[Tensor, " b"]
    heaviest: Bool[Tensor, " b"]


@dataclass(kw_only=True)
class Row:
    """A solver on the sets of a split, a run a batch."""

    name: str
    split: str
    mixer: SuperMix
    runs: list[Run] = field(default_factory=list)
    worths: list[Worth] = field(default_factory=list)

    def numbers(self, cap: int) -> dict[str, int | float | None]:
        """Give what is published for a limit on steps, at most that of the runs; None where nothing was solved."""
        found = cost(self.runs, cap)
        numbers = found.numbers()
        saliency_gradients = self.mixer.init != "zeros"
        numbers["backwards_per_attempted"] = found.backwards / found.sets + saliency_gradients
        if found.solved:
            numbers["backwards_per_solved"] = (found.backwards + found.sets * saliency_gradients) / found.solved
        solved = torch.cat([run.solved & (run.num_steps <= cap) for run in self.runs])
        for name in ("kept", "divergence", "heaviest"):
            values = torch.cat([getattr(worth, name) for worth in self.worths])[solved].double()
            numbers[name] = float(values.mean()) if found.solved else None
        numbers["solved_per_forward"] = found.solved / found.forwards
        return numbers

    def kept_by_all(self) -> float:
        """Give the share of saliency kept in all sets, the unsolved ones as the largest limit leaves them."""
        return float(torch.cat([worth.kept for worth in self.worths]).double().mean())


def worth(mix: MixedBatch, saliency: Float[Tensor, "b h w"]) -> Worth:
    """Say what the mixes of a batch are worth.

    Args:
        mix: The mixes.
        saliency: Of the natural images.
    """
    assert mix.teacher_logits is not None
    likeliest = mix.source_classes.gather(1, mix.mix_weights.argmax(dim=1, keepdim=True)).squeeze(1)
    return Worth(
        kept=saliency_kept(mix, saliency).cpu(),
        divergence=divergence(mix.teacher_logits, mix.soft_targets).cpu(),
        heaviest=(mix.teacher_logits.argmax(dim=1) == likeliest).cpu(),
    )


def saliency_kept(mix: MixedBatch, saliency: Float[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Measure the share of a source's saliency where the mask keeps it, averaged over the sources of each set."""
    shares = saliency / saliency.sum(dim=(1, 2), keepdim=True)
    return (mix.masks * shares[mix.source_indices]).sum(dim=(2, 3)).mean(dim=1)
