"""The methods whose mixes are looked at under fresh views, and what the teacher says of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.shared.mixers import MEANING as MIXERS
from supermix_pl.experiments.shared.mixers import named_mixers
from supermix_pl.experiments.shared.snapshots import Looks, Snapshot, look, snapshots
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.mixing import BlindMixer
from supermix_pl.solver.criterion import class_membership, margin
from supermix_pl.teacher.passes import show
from supermix_pl.transforms import View

MEANING = f"{MIXERS} Holds: the teacher's first classes of a fresh view are those of the set."
_SMALL_AT_ONCE, _LARGE_AT_ONCE = 64, 8  # images that the teacher sees


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """Mixes of a method, and how they fare.

    Args:
        snapshot: The mixes.
        looks: Under fresh views.
        exact_logits: The teacher's of their exact pixels.
    """

    snapshot: Snapshot
    looks: Looks
    exact_logits: torch.Tensor

    @property
    def exact(self) -> torch.Tensor:
        """Which mixes have the classes of their set on top on exact pixels."""
        membership = class_membership(self.snapshot.mix.source_classes, self.exact_logits.shape[1])
        return margin(self.exact_logits, membership) > 0


def _at_once(subject: Subject) -> int:
    return _SMALL_AT_ONCE if subject.is_small else _LARGE_AT_ONCE


def held_methods(subject: Subject) -> dict[str, SuperMix | BlindMixer]:
    """Return the methods, all with sets of different classes of the same images."""
    return named_mixers(replace(subject.supermix, chunk_size=_at_once(subject)))


def hold(mixer: SuperMix | BlindMixer, subject: Subject, rounds: Sequence[int], view: View, views: int) -> list[Held]:
    """Mix all images of a subject, and look at the mixes after some rounds.

    Args:
        mixer: Makes them.
        subject: Teacher and images.
        rounds: Rising; of mixers that do not look they do not matter.
        view: What is fresh.
        views: Of each mix.
    """
    teacher: FrozenTeacher = subject.teacher
    labels = subject.labels if isinstance(mixer, SuperMix) and mixer.takes_labels else None
    found = snapshots(mixer, teacher, subject.images, labels, seed=[subject.seed], rounds=rounds, view=view)
    return [
        Held(
            snapshot=each,
            looks=look(each, teacher, view, views),
            exact_logits=show(teacher, each.mix.images, _at_once(subject)),
        )
        for each in found
    ]
