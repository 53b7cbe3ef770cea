"""The methods whose mixes are looked at under fresh views, and what the teacher says of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from supermix_pl import CutMix, FrozenTeacher, MixUp, SuperMix
from supermix_pl.experiments.bench.front_settings import paper_and_before
from supermix_pl.experiments.bench.snapshots import Looks, Snapshot, look, snapshots
from supermix_pl.experiments.figures.subject import Subject
from supermix_pl.mixing import BlindMixer
from supermix_pl.solver.chunks import show
from supermix_pl.solver.criterion import class_membership, margin
from supermix_pl.transforms import RandomCropFlip, RandomResizedCropFlip, View

SOLVERS = ("SuperMix", "fast before", "SuperMix.fast")
MEANING = (
    "SuperMix: the paper's solver; fast before: quicker, likewise on exact pixels until the first test is passed; "
    "SuperMix.fast: the recommendation, solved under random views. Holds: the teacher's first classes of a fresh view "
    "are those of the set."
)
_LARGEST_SMALL_SIDE = 64
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
    def shown(self) -> torch.Tensor:
        """Which mixes have the classes of their set on top on exact pixels."""
        membership = class_membership(self.snapshot.mix.source_classes, self.exact_logits.shape[1])
        return margin(self.exact_logits, membership) > 0


def view_of(subject: Subject) -> View:
    """Give what a student would see mixes of these images under: resized crops of large ones."""
    return RandomCropFlip() if _is_small(subject) else RandomResizedCropFlip()


def _is_small(subject: Subject) -> bool:
    return max(subject.images.shape[2:]) <= _LARGEST_SMALL_SIDE


def _at_once(subject: Subject) -> int:
    return _SMALL_AT_ONCE if _is_small(subject) else _LARGE_AT_ONCE


def held_methods(subject: Subject) -> dict[str, SuperMix | BlindMixer]:
    """Give the methods, all with sets of different classes of the same images."""
    at_once = _at_once(subject)
    paper = replace(subject.supermix, pairing="distinct", chunk_size=at_once)
    solved = list(paper_and_before(paper).values())
    solved.append(SuperMix.fast(k=paper.k, alpha=paper.alpha, classes=paper.classes, chunk_size=at_once))
    return {
        **dict(zip(SOLVERS, solved, strict=True)),
        "MixUp": MixUp(k=paper.k, alpha=paper.alpha, pairing="distinct"),
        "CutMix": CutMix(k=paper.k, alpha=paper.alpha, pairing="distinct"),
    }


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
