"""The sets that figures show, and the mixes of each method."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from supermix_pl import CutMix, MixedBatch, MixUp
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.mixing import Mixer

CHOICE = "Sets: the first among randomly drawn test images that the teacher recognises, of different classes each."


@dataclass(frozen=True, kw_only=True, eq=False)
class Sets:
    """Sets of k images, one after the other, and how each method mixes them."""

    k: int  # sources in a set
    images: Float[Tensor, "b c h w"]  # normalised; rows i k to (i + 1) k - 1 are set i
    mixes: dict[str, MixedBatch]  # by method, of all these rows; row i k is the mix of set i


def mixed(subject: Subject, k: int, images: Float[Tensor, "b c h w"]) -> Sets:
    """Mix images with each method: the same sources, weights from the same distribution."""
    supermix = subject.supermix
    mixers: dict[str, Mixer] = {
        "SuperMix": replace(supermix, k=k, pairing="shift"),
        "CutMix": CutMix(k=k, alpha=supermix.alpha),
        "MixUp": MixUp(k=k, alpha=supermix.alpha),
    }
    mixes = {name: mixer(subject.teacher, images, seed=subject.seed) for name, mixer in mixers.items()}
    return Sets(k=k, images=images, mixes=mixes)


def chosen_images(subject: Subject, k: int, count: int) -> Float[Tensor, "b c h w"]:
    """Choose the images of `count` sets; see `CHOICE`.

    Raises:
        ValueError: If there are not as many.
    """
    if k < 2 or count < 1:
        raise ValueError(f"expected k >= 2 and at least one set, got k = {k} and {count} sets")
    with torch.no_grad():
        recognised = (subject.teacher(subject.images).argmax(dim=1) == subject.labels).nonzero().squeeze(1).tolist()
    labels = subject.labels.tolist()
    rows: list[int] = []
    while len(rows) < k * count:
        present = {labels[row] for row in rows[len(rows) - len(rows) % k :]}
        row = next((row for row in recognised if row not in rows and labels[row] not in present), None)
        if row is None:
            raise ValueError(
                f"expected {count} sets of {k} different classes, got {len(recognised)} images that the teacher "
                f"recognises of {len(labels)}; give a better teacher, more --images or fewer --sets"
            )
        rows.append(row)
    return subject.images[rows]
