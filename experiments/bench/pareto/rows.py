"""Rows: a mixer on the sets of a split after some rounds, what its mixes cost and how they fare."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from supermix_pl import SuperMix
from supermix_pl.experiments.bench.program import named, tracked
from supermix_pl.experiments.shared.measures import saliency_kept, softness
from supermix_pl.experiments.shared.mixers import FAST, fast, named_mixers
from supermix_pl.experiments.shared.snapshots import Snapshot, look, snapshots
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.mixing import BlindMixer
from supermix_pl.solver.saliency import input_saliency


@dataclass(frozen=True, kw_only=True)
class Looked:
    """The mixes of a batch after some rounds.

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
    """A mixer on the sets of a split: by rounds, an entry a batch."""

    name: str
    split: str
    mixer: SuperMix | BlindMixer
    looked: dict[int, list[Looked]] = field(default_factory=dict)

    def numbers(self, rounds: int) -> dict[str, int | float]:
        """Return what is published of so many rounds."""
        found = self.looked[rounds]

        def joined(name: str) -> Tensor:
            return torch.cat([getattr(each, name) for each in found]).double()

        sets, holds, fresh = len(joined("kept")), joined("holds"), joined("fresh")
        return {
            "rounds": rounds,
            "sets": sets,
            "holds": float((holds * fresh).sum() / fresh.sum()),
            "holds_of_all_views": float(holds.mean()),
            "forwards": sum(each.forwards for each in found) / sets,
            "backwards": sum(each.backwards for each in found) / sets,
            "probability": float(joined("probability").mean()),
            "softness": float(joined("softness").mean()),
            "kept": float(joined("kept").mean()),
        }


def mixers(paper: SuperMix, changes: Sequence[dict[str, Any]], rounds: int) -> dict[str, SuperMix | BlindMixer]:
    """Return the named mixers and the changes of SuperMix.fast, blind ones last; what makes no difference is left out.

    Raises:
        ValueError: If SuperMix.fast does not take a change.
    """
    found, blind = {}, {}
    for name, mixer in named_mixers(paper).items():
        if isinstance(mixer, SuperMix):
            found[name] = replace(mixer, max_steps=rounds)
        else:
            blind[name] = mixer
    for each in changes:
        if "max_steps" in each:
            raise ValueError("expected changes of SuperMix.fast but max_steps, which bench.rounds varies")
        mixer = fast(paper, **{"max_steps": rounds, **each})
        if mixer not in found.values():
            found[f"{FAST}, {named(each)}"] = mixer
    return found | blind


def measure_batches(
    rows: Sequence[Row], subject: Subject, *, batch_size: int, rounds: Sequence[int], views: int
) -> None:
    """Mix all images of a subject by every row's mixer, and take down what that gave.

    Args:
        rows: Take it.
        subject: Teacher and images.
        batch_size: Sets that are solved together.
        rounds: After which the mixes are looked at, rising.
        views: Fresh ones of each mix.
    """
    for number, (images, labels) in tracked(enumerate(subject.batches(batch_size)), rows[0].split):
        given = labels if subject.supermix.takes_labels else None
        saliency = input_saliency(subject.teacher, images, given)[1]
        options: dict[str, Any] = {"seed": (subject.seed, number), "rounds": rounds, "view": subject.view}
        for row in rows:
            for snapshot in snapshots(row.mixer, subject.teacher, images, given, **options):
                found = _looked(snapshot, subject, saliency, views)
                row.looked.setdefault(snapshot.rounds, []).append(found)


def _looked(snapshot: Snapshot, subject: Subject, saliency: Tensor, views: int) -> Looked:
    mix, looks = snapshot.mix, look(snapshot, subject.teacher, subject.view, views)
    return Looked(
        holds=looks.holds,
        fresh=looks.fresh,
        probability=looks.probability,
        softness=softness(mix),
        kept=saliency_kept(mix, saliency),
        forwards=mix.teacher_forwards - mix.label_forwards,
        backwards=mix.teacher_backwards,
    )
