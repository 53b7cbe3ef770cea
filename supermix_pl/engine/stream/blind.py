"""The stream of a mixer that draws its masks without looking: fresh mixes of earlier images in every step."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.engine.stream.images import ImageStore
from supermix_pl.mixing import BlindMixer, MixedBatch
from supermix_pl.mixing.sampling import choose_sources, draw_keys
from supermix_pl.mixing.targets import soft_targets
from supermix_pl.mixing.views import Viewer
from supermix_pl.solver import Outcome
from supermix_pl.solver.masks import mix_images

_MOST_CANDIDATES = 512  # images that the sets of one step are drawn from


@torch.no_grad()
def mix_stored(
    mixer: BlindMixer,
    images: ImageStore,
    count: int,
    num_classes: int,
    viewer: Viewer,
    rng: np.random.Generator,
) -> tuple[MixedBatch, Int[Tensor, "b k"]]:
    """Mix stored images with fresh weights.

    Args:
        mixer: Draws the masks.
        images: Where the sources come from.
        count: Mixes to make.
        num_classes: n.
        viewer: What the student sees them under.
        rng: Where chance comes from.

    Returns:
        The mixes as they are shown, in the solver's precision and not labelled yet, and the places of their sources.
    """
    stored = len(images.ring)
    candidates = rng.choice(stored, size=min(stored, _MOST_CANDIDATES), replace=False)
    k = min(mixer.k, stored)
    device = images.classes(torch.zeros(0, dtype=torch.long)).device
    window = torch.from_numpy(candidates).to(device)
    ranks = torch.from_numpy(rng.random((count, len(candidates)), dtype=np.float32)).to(device)
    places = window[choose_sources(ranks, images.classes(window) if mixer.pairing == "distinct" else None, k)]
    sources: Float[Tensor, "b k c h w"] = images.at(places)
    size = (sources.shape[3], sources.shape[4])
    drawn_masks, drawn_weights = mixer.draw_masks(rng, count, k, size)
    masks = torch.from_numpy(drawn_masks).to(sources).expand(-1, -1, *size)
    weights = torch.from_numpy(drawn_weights).to(sources)
    classes = images.classes(places)
    keys = torch.from_numpy(draw_keys(rng, count)).to(device)
    mix = MixedBatch(
        images=viewer(mix_images(sources, masks), keys, torch.zeros_like(keys)),
        masks=masks,
        soft_targets=soft_targets(classes, weights, num_classes),
        teacher_logits=None,
        source_indices=torch.full_like(classes, -1),
        source_classes=classes,
        mix_weights=weights,
        outcomes=torch.full_like(classes[:, 0], int(Outcome.CAPPED)),
        num_steps=torch.zeros_like(classes[:, 0]),
        natural_logits=None,
        teacher_forwards=0,
        teacher_backwards=0,
    )
    return mix, places
