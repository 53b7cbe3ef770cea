"""Sets that a picture shows: a pool keeps mixes without their sources, so some are kept aside as they end."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from supermix_pl.mixing import MixedBatch
from supermix_pl.mixing.drawn import DrawnSets

_MOST = 4


def keep_first(drawn: DrawnSets, mix: MixedBatch) -> tuple[Float[Tensor, "m c h w"], MixedBatch]:
    """Copy the first sets: their sources, as a batch of images, and their mixes, as mixes of this batch."""
    sources = drawn.sources[:_MOST].to(mix.images.dtype, copy=True)
    kept = {name: value[:_MOST].clone() for name, value in vars(mix).items() if isinstance(value, Tensor)}
    kept["source_indices"] = torch.arange(sources.shape[0] * sources.shape[1]).view(sources.shape[:2])
    return sources.flatten(0, 1), replace(mix, **kept)
