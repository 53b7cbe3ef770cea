"""New sets for free slots: fewer than the batch has images, and no more passes of the teacher than they need."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing import SuperMix
from supermix_pl.mixing.drawn import DrawnSets
from supermix_pl.mixing.inputs import NaturalPass
from supermix_pl.mixing.sampling import cyclic_order, draw_sources, draw_weights, neighbours
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
    num_images, sets = len(images), []
    for drawn_before in range(0, count, num_images):
        places = np.arange(min(num_images, count - drawn_before))
        if host_classes is not None:
            sources = draw_sources(rng, num_images, mixer.k, mixer.pairing, host_classes)
            sets.append(sources[rng.permutation(num_images)[places]])
        else:
            order = cyclic_order(rng, num_images, mixer.pairing)
            sets.append(neighbours(order, rng.integers(num_images) + places, mixer.k))
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
