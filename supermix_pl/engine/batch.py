"""The batch engine: the sets of a batch are solved to the end, before its training step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from supermix_pl.engine.base import Engine
from supermix_pl.mixing import MixedBatch, Mixer, Seed
from supermix_pl.mixing.checks import numbers
from supermix_pl.mixing.views import Transform
from supermix_pl.solver.rows import to_device
from supermix_pl.teacher.frozen import FrozenTeacher

_PART = 0xBA7  # names the chance of further mixes of a batch


@dataclass(frozen=True)
class BatchEngine(Engine):
    """Solve all sets of a batch before its training step, to the end or to `max_steps`.

    Every mix is new, and costs all its steps at once. With mode="extend" the mixes show the very images that stand
    beside them. Of b images, b mixes have each image once as their first source. Fewer are of images drawn at random,
    mixed with each other; more are those and further ones, with weights and partners of their own.
    """

    def mix(
        self,
        mixer: Mixer,
        teacher: FrozenTeacher | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None,
        *,
        seed: Seed,
        view: Transform | None = None,
        natural_logits: Float[Tensor, "b n"] | None = None,
        num_mixes: int | None = None,
    ) -> MixedBatch:
        """Return mixes of the batch; see `Engine.mix`."""
        left = len(images) if num_mixes is None else num_mixes
        parts: list[MixedBatch] = []
        while not parts or left > 0:
            own: Seed = (*numbers(seed), _PART, len(parts)) if parts else seed
            if left >= len(images):
                mix = mixer(teacher, images, labels, seed=own, view=view, natural_logits=natural_logits)
                natural_logits = mix.natural_logits if natural_logits is None else natural_logits
            else:
                chosen = np.random.default_rng([*numbers(own), _PART])
                size = min(max(left, mixer.k), len(images))
                rows = to_device(np.sort(chosen.choice(len(images), size=size, replace=False)), images.device)
                some_labels, some_logits = (None if each is None else each[rows] for each in (labels, natural_logits))
                mix = mixer(teacher, images[rows], some_labels, seed=own, view=view, natural_logits=some_logits)
                mix = replace(mix, source_indices=rows[mix.source_indices], natural_logits=None).take(slice(left))
            parts.append(mix)
            left -= len(mix)
        return replace(_concatenate(parts), natural_logits=natural_logits)


def _concatenate(parts: Sequence[MixedBatch]) -> MixedBatch:
    """Return the mixes of several calls as one batch; sets of fewer sources get copies of their first, of weight 0."""
    if len(parts) == 1:
        return parts[0]
    most = max(part.mix_weights.shape[1] for part in parts)
    parts = [_widened(part, most) for part in parts]
    columns = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name, value in vars(parts[0]).items()
        if isinstance(value, Tensor) and name != "natural_logits"
    }
    counts = ("teacher_forwards", "teacher_backwards", "label_forwards")
    sums = {name: sum(getattr(part, name) for part in parts) for name in counts}
    return replace(parts[0], **columns, **sums, left_out=max(part.left_out for part in parts))


def _widened(mix: MixedBatch, k: int) -> MixedBatch:
    more = k - mix.mix_weights.shape[1]
    if more == 0:
        return mix
    indices, classes = (
        torch.cat([each, each[:, :1].expand(-1, more)], dim=1) for each in (mix.source_indices, mix.source_classes)
    )
    masks = pad(mix.masks, (0, 0, 0, 0, 0, more))
    return replace(
        mix, masks=masks, source_indices=indices, source_classes=classes, mix_weights=pad(mix.mix_weights, (0, more))
    )
