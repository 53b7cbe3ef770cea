"""Training on images that were made or found before: fixed mixes, or external images without labels."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torch.nn.functional import one_hot

from supermix_pl import FrozenTeacher, MixedBatch
from supermix_pl.engine import Engine
from supermix_pl.experiments.data.pixels import Normalisation
from supermix_pl.experiments.mixes.generation import source_order
from supermix_pl.experiments.mixes.shards import FixedMixes, Mixes
from supermix_pl.mixing import Mixer, Seed
from supermix_pl.solver import Outcome
from supermix_pl.solver.chunks import show


class ReplayEngine(Engine):
    """An engine that solves nothing: every batch gets the next images of a kept set, labelled by the teacher.

    The set is used in one random order after the other, each image at most once in a pass: the places that a smaller
    batch leaves empty are passed over, so that every batch is a function of its number. Each view is labelled anew, as
    the authors' code does. The images are no mixes of the batch at hand: `source_indices` of what it gives are -1.

    Args:
        images: Fixed mixes, or images without labels.
        mean: What the batches are normalised with, a channel each, on the scale [0, 1].
        std: Likewise.
        batch_size: Natural images in a whole batch.
        view: Applied to the normalised images before the teacher labels them; its chance comes from the seed.
    """

    def __init__(
        self,
        images: FixedMixes | UInt8[np.ndarray, "m 3 height width"],
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        batch_size: int,
        view: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._images = images
        self._normalisation = Normalisation(mean, std)
        self._batch_size = batch_size
        self._view = view

    def mix(
        self,
        mixer: Mixer,
        teacher: FrozenTeacher | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None,
        *,
        seed: Seed,
    ) -> MixedBatch:
        """Give as many kept images as there are images; the seed's last number counts the batches."""
        assert teacher is not None
        assert not isinstance(seed, int)
        *stream, number = seed
        places = np.arange(number * self._batch_size, number * self._batch_size + len(images))
        named = int(np.random.default_rng(stream).integers(2**31))
        indices = source_order(len(self._images), places, named)
        kept = self._images.take(indices) if isinstance(self._images, FixedMixes) else None
        shown = self._normalisation.normalise(torch.from_numpy(self._pixels(indices, kept)).to(images.device))
        if self._view is not None:
            with isolate_rng():
                torch.manual_seed(int(np.random.default_rng([*seed]).integers(2**63)))
                shown = self._view(shown)
        with torch.autocast(images.device.type, enabled=False):
            logits = show(teacher, shown, getattr(mixer, "chunk_size", None))
        if kept is None:
            classes = logits.nan_to_num().argmax(dim=1, keepdim=True)
            weights = torch.ones_like(classes, dtype=torch.float32)
            masks = torch.ones_like(shown[:, :1])
            solved, steps = torch.ones_like(classes[:, 0]).bool(), torch.zeros_like(classes[:, 0])
        else:
            on = images.device
            classes = torch.from_numpy(kept.source_classes).to(on)
            weights = torch.from_numpy(kept.mix_weights).to(on)
            masks = torch.nn.functional.interpolate(torch.from_numpy(kept.masks).to(on).float(), shown.shape[2:])
            solved, steps = torch.from_numpy(kept.solved).to(on), torch.from_numpy(kept.num_steps).to(on).long()
        return MixedBatch(
            images=shown.to(images.dtype),
            masks=masks,
            soft_targets=(weights[..., None] * one_hot(classes, logits.shape[1])).sum(dim=1),
            teacher_logits=logits,
            source_indices=torch.full_like(classes, -1, dtype=torch.long),
            source_classes=classes,
            mix_weights=weights,
            outcomes=torch.where(solved, Outcome.SOLVED, Outcome.CAPPED),
            num_steps=steps,
            natural_logits=None,
            teacher_forwards=len(images),
            teacher_backwards=0,
        )

    def _pixels(self, indices: Int64[np.ndarray, " b"], kept: Mixes | None) -> UInt8[np.ndarray, "b 3 h w"]:
        if kept is not None:
            return kept.images
        assert isinstance(self._images, np.ndarray)
        return np.asarray(self._images[indices])
