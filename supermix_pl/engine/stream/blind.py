"""The stream of a mixer that makes its mixes at once: fresh mixes of earlier images in every step."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from supermix_pl.engine.stream.images import ImageStore
from supermix_pl.mixing import Chosen, DirectMixer, MixedBatch
from supermix_pl.mixing.sampling import choose_sources, draw_keys
from supermix_pl.mixing.views import Viewer
from supermix_pl.solver.rows import to_device
from supermix_pl.teacher.frozen import FrozenTeacher

_MOST_CANDIDATES = 512  # images that the sets of one step are drawn from


@torch.no_grad()
def mix_stored(
    mixer: DirectMixer,
    teacher: FrozenTeacher | None,
    images: ImageStore,
    count: int,
    num_classes: int,
    viewer: Viewer,
    rng: np.random.Generator,
) -> tuple[MixedBatch, Int[Tensor, "b k"]]:
    """Mix `count` sets of stored images with fresh weights.

    Returns:
        The mixes as they are shown, in the solver's precision and not labelled yet, and the places of their sources.
    """
    stored = len(images.ring)
    candidates = rng.choice(stored, size=min(stored, _MOST_CANDIDATES), replace=False)
    k = min(mixer.k, stored)
    device = images.classes(torch.zeros(0, dtype=torch.long)).device
    window = to_device(candidates, device)
    ranks = to_device(rng.random((count, len(candidates)), dtype=np.float32), device)
    places = window[choose_sources(ranks, images.classes(window) if mixer.pairing == "distinct" else None, k)]
    classes = images.classes(places)
    own = torch.arange(places.numel(), device=device).view_as(places)
    mix = mixer.mix(Chosen(rng, images.at(places).flatten(0, 1), classes.flatten(), own, teacher), num_classes)
    keys = torch.from_numpy(draw_keys(rng, count))
    shown = viewer(mix.images, keys, torch.zeros_like(keys))
    return replace(mix, images=shown, source_indices=torch.full_like(classes, -1)), places
