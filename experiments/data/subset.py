"""Choosing samples class by class: the held-out part and the subset of a training set."""

import numpy as np
from jaxtyping import Int64


def split_indices(
    labels: Int64[np.ndarray, " n"], *, validation_fraction: float, images_per_class: int | None, seed: int
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " v"]]:
    """Chooses training and validation samples, class by class.

    Raises:
        ValueError: If a class has too few samples.
    """
    train, validation = [], []
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    for label, members in enumerate(by_class):
        members = np.random.default_rng([seed, label]).permutation(members)
        num_held = round(validation_fraction * len(members))
        if validation_fraction > 0 and len(members) > 1:
            num_held = max(num_held, 1)
        kept = members[num_held:][:images_per_class]
        if len(members) and len(kept) < (images_per_class or 1):
            raise ValueError(
                f"expected at least {images_per_class or 1} training images of class {label}, got {len(kept)} of "
                f"{len(members)} beside {num_held} held out: lower images_per_class or validation_fraction"
            )
        train.append(kept)
        validation.append(members[:num_held])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(validation))
