"""Who is mixed with whom, and with which weights: small draws on the host, from one generator a batch."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing.checks import fit_k

Pairing = Literal["shift", "random", "distinct"]
"""How the other sources of a set are chosen:

- "shift": the next images of the batch, cyclically, as the authors' code does;
- "random": the next images of a random cyclic order of the batch, so that every image is in exactly k sets;
- "distinct": random images of classes that differ from each other as far as the batch has enough classes.
"""


def draw_weights(rng: np.random.Generator, num_sets: int, k: int, alpha: float) -> Float[np.ndarray, "b k"]:
    """Draw mixing weights from the symmetric Dirichlet distribution (Section 3.2)."""
    return rng.dirichlet(np.full(k, alpha), size=num_sets)


def draw_keys(rng: np.random.Generator, num_sets: int) -> Int[np.ndarray, " b"]:
    """Draw the names of the streams of chance of sets, from which their views come."""
    return rng.integers(2**63 - 1, size=num_sets)


def draw_sources(
    rng: np.random.Generator, num_images: int, k: int, pairing: Pairing, classes: Int[np.ndarray, " b"] | None = None
) -> Int[np.ndarray, "b k"]:
    """Choose the k <= num_images sources of the set of every image, none of them twice in one."""
    if pairing == "distinct":
        if classes is None:
            raise ValueError('expected the classes of the images for pairing="distinct", got None')
        return _distinct_sources(rng, classes, k)
    order = cyclic_order(rng, num_images, pairing)
    return neighbours(order, np.argsort(order), k)


def draw_known_sources(
    rng: np.random.Generator, classes: Int[Tensor, " b"], k: int, pairing: Pairing, *, labelled: bool
) -> tuple[Int[np.ndarray, "b k"], int]:
    """Choose the sources of b sets among the images whose class is known, which is not -1.

    The host waits for the classes only where it has to look: labels that were checked are all known. k shrinks where
    fewer images are.

    Returns:
        Sets whose first source is the image itself; of an image without a class the sources of another one's set. And
        the number of images without a class.
    """
    count = len(classes)
    if labelled and pairing != "distinct":
        return draw_sources(rng, count, fit_k(k, count), pairing), 0
    on_host = classes.cpu().numpy()
    known = np.flatnonzero(on_host >= 0)
    sources = known[draw_sources(rng, len(known), fit_k(k, len(known)), pairing, on_host[known])]
    if len(known) == count:
        return sources, 0
    stand_ins = rng.integers(len(known), size=count)
    stand_ins[known] = np.arange(len(known))
    return sources[stand_ins], count - len(known)


def cyclic_order(rng: np.random.Generator, num_images: int, pairing: Pairing) -> Int[np.ndarray, " b"]:
    """Return the cyclic order of the batch whose neighbours are mixed; for "shift" and "random"."""
    return np.arange(num_images) if pairing == "shift" else rng.permutation(num_images)


def neighbours(order: Int[np.ndarray, " b"], places: Int[np.ndarray, " r"], k: int) -> Int[np.ndarray, "r k"]:
    """Take the images at some places of a cyclic order, each with the k - 1 behind it."""
    return order[(places[:, None] + np.arange(k)) % len(order)]


def _distinct_sources(rng: np.random.Generator, classes: Int[np.ndarray, " b"], k: int) -> Int[np.ndarray, "b k"]:
    """Take, source by source, the image of lowest random rank whose class the set lacks, else of lowest rank at all."""
    num_images = len(classes)
    everyone = np.arange(num_images)
    ranks = rng.random((num_images, num_images), dtype=np.float32)
    chosen = [everyone]
    for _ in range(k - 1):
        newest = chosen[-1]
        ranks[classes[newest][:, None] == classes[None, :]] += 1.0
        ranks[everyone, newest] = np.inf
        chosen.append(ranks.argmin(axis=1))
    return np.stack(chosen, axis=1)


def choose_sources(ranks: Float[Tensor, "b m"], classes: Int[Tensor, " m"] | None, k: int) -> Int[Tensor, "b k"]:
    """Choose the k <= m images of lowest rank for b sets, on the device: the host need not know the classes.

    The ranks, in [0, 1), are changed in place. Given classes differ within a set as far as there are enough.
    """
    if classes is None:
        return ranks.topk(k, dim=1, largest=False).indices
    chosen = []
    for _ in range(k):
        newest = ranks.argmin(dim=1)
        ranks += (classes[newest][:, None] == classes[None, :]).to(ranks.dtype)
        ranks.scatter_(1, newest[:, None], torch.inf)
        chosen.append(newest)
    return torch.stack(chosen, dim=1)
