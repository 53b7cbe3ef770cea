"""New sets for free slots: fewer than the batch has images, and no more passes of the teacher than they need."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing import SuperMix
from supermix_pl.mixing.drawn import DrawnSets
from supermix_pl.mixing.inputs import NaturalPass
from supermix_pl.mixing.sampling import draw_sources, draw_weights
from supermix_pl.teacher import FrozenTeacher


def draw_some(
    mixer: SuperMix,
    teacher: FrozenTeacher,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"] | None,
    count: int,
    rng: np.random.Generator,
) -> tuple[NaturalPass, DrawnSets, Float[Tensor, "count k s t"]]:
    """Draw some sets of a batch, each image as often as any other, and show the teacher no image that is in none.

    Sets of a cyclic order follow one another in it, so that n of them have n + k - 1 images between them.
    """
    looked, host_classes = None, None
    if mixer.pairing == "distinct":
        looked = mixer.look(teacher, images, labels)
        host_classes = looked[1].cpu().numpy()
    sets = []
    for start in range(0, count, len(images)):
        sources = draw_sources(rng, len(images), mixer.k, mixer.pairing, host_classes)
        cyclic = mixer.pairing != "distinct" and mixer.k > 1
        rows = _in_order(sources, int(rng.integers(len(images)))) if cyclic else rng.permutation(len(images))
        sets.append(sources[rows[: count - start]])
    indices = np.concatenate(sets)
    if looked is None:
        used, places = np.unique(indices, return_inverse=True)
        indices = places.reshape(indices.shape)
        kept = torch.from_numpy(used).to(images.device)
        images = images[kept]
        looked = mixer.look(teacher, images, None if labels is None else labels[kept])
    natural, classes = looked
    drawn, start = mixer.draw(images, natural, classes, indices, draw_weights(rng, count, mixer.k, mixer.alpha))
    return natural, drawn, start


def _in_order(sources: Int[np.ndarray, "b k"], first: int) -> Int[np.ndarray, " b"]:
    """Follow a cyclic order from an image on: the second source of a set is the image that comes next."""
    rows = np.empty(len(sources), dtype=np.int64)
    for place in range(len(sources)):
        rows[place] = first
        first = sources[first, 1]
    return rows
