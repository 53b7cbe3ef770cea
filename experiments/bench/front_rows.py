"""Rows of the front: a mixer on the sets of a split after some rounds, what they cost and what its mixes are worth."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.experiments.bench.snapshots import Snapshot, look, snapshots
from supermix_pl.mixing import BlindMixer
from supermix_pl.transforms import View


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What the mixes of a batch cost and are worth after some rounds.

    Args:
        holds: Whether the teacher finds the set's classes in each fresh view.
        fresh: Whether a set was not solved on that very view.
        probability: Of the set's classes together.
        softness: Mean of m(1 - m) over the masks of each set.
        kept: Share of the sources' saliency that the masks keep; see `saliency_kept`.
        forwards: Images that the teacher passed forward for them, these looks not counted.
        backwards: Rows of input gradients.
    """

    holds: Bool[Tensor, "b v"]
    fresh: Bool[Tensor, "b v"]
    probability: Float[Tensor, "b v"]
    softness: Float[Tensor, " b"]
    kept: Float[Tensor, " b"]
    forwards: int
    backwards: int


@dataclass(kw_only=True)
class Row:
    """A mixer on the sets of a split, by rounds, a worth a batch."""

    name: str
    split: str
    mixer: SuperMix | BlindMixer
    worths: dict[int, list[Worth]] = field(default_factory=dict)

    def numbers(self, rounds: int) -> dict[str, int | float]:
        """Give what is published of so many rounds."""
        worths = self.worths[rounds]
        sets = sum(len(each.kept) for each in worths)
        holds, fresh, probability = (
            torch.cat([getattr(each, name) for each in worths]).double() for name in ("holds", "fresh", "probability")
        )
        return {
            "rounds": rounds,
            "sets": sets,
            "holds": float((holds * fresh).sum() / fresh.sum()),
            "holds_of_all_views": float(holds.mean()),
            "forwards": sum(each.forwards for each in worths) / sets,
            "backwards": sum(each.backwards for each in worths) / sets,
            "probability": float(probability.mean()),
            "softness": float(torch.cat([each.softness for each in worths]).double().mean()),
            "kept": float(torch.cat([each.kept for each in worths]).double().mean()),
        }


def measure_batch(
    row: Row,
    teacher: FrozenTeacher,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"] | None,
    saliency: Float[Tensor, "b h w"],
    *,
    seed: Sequence[int],
    rounds: Sequence[int],
    view: View,
    views: int,
) -> None:
    """Mix a batch and take down what that is worth.

    Args:
        row: Takes it.
        teacher: Supervises and looks.
        images: Normalised.
        labels: What the classes of the sources are; None for the teacher's.
        saliency: Of the images.
        seed: Names the batch's stream of chance.
        rounds: After which the mixes are looked at, rising.
        view: As the student sees them.
        views: Of each mix.
    """
    for snapshot in snapshots(row.mixer, teacher, images, labels, seed=seed, rounds=rounds, view=view):
        row.worths.setdefault(snapshot.rounds, []).append(_worth(snapshot, teacher, saliency, view, views))


def _worth(snapshot: Snapshot, teacher: FrozenTeacher, saliency: Tensor, view: View, views: int) -> Worth:
    mix, looks = snapshot.mix, look(snapshot, teacher, view, views)
    return Worth(
        holds=looks.holds,
        fresh=looks.fresh,
        probability=looks.probability,
        softness=(mix.masks * (1 - mix.masks)).mean(dim=(1, 2, 3)),
        kept=saliency_kept(mix, saliency),
        forwards=mix.teacher_forwards - mix.label_forwards,
        backwards=mix.teacher_backwards,
    )


def saliency_kept(mix: MixedBatch, saliency: Float[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Measure the share of a source's saliency where the mask keeps it, averaged over the sources of each set."""
    shares = saliency / saliency.sum(dim=(1, 2), keepdim=True)
    return (mix.masks * shares[mix.source_indices]).sum(dim=(2, 3)).mean(dim=1)
