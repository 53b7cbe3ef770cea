"""A control for fixed mixes: their masks on images that they were not solved for."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64

from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.mixes.shards import FixedMixes, Mixes
from supermix_pl.solver.masks import mix_images, upsample


class MisplacedMixes:
    """Fixed mixes whose every source is exchanged for another training image, drawn at random.

    A student that learns as much from them as from the mixes themselves does not need masks that belong to their
    images. The masks are those of the coarse grid that is kept, enlarged to the images.

    The n-th mix always gets the same images for one seed.

    Raises:
        ValueError: If the mixes are of another number of images, or there are not two.
    """

    def __init__(self, mixes: FixedMixes, datamodule: ImageDataModule, seed: int) -> None:
        self._mixes = mixes
        self._source, self._samples = datamodule.training_samples()
        self._normalisation = datamodule.opened.normalisation
        self._seed = seed
        count = len(self._samples)
        if mixes.about["num_sources"] != count or count < 2:
            raise ValueError(
                f"expected mixes of the {count} training images, at least 2, got those of "
                f"{mixes.about['num_sources']} in {mixes.folder}: make others with supermix-generate"
            )

    def __len__(self) -> int:
        return len(self._mixes)

    def sources_of(self, indices: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, "m k"]:
        """Return the images that mixes are made of, as numbers of the training samples."""
        own = self._mixes.facts["source_indices"][indices]
        draws = [np.random.default_rng([self._seed, int(index)]) for index in indices]
        steps = [draw.integers(1, len(self._samples), size=own.shape[1]) for draw in draws]
        return (own + np.stack(steps)) % len(self._samples)  # never the image itself

    def take(self, indices: Int64[np.ndarray, " m"]) -> Mixes:
        """Return the mixes of these numbers, in [0, len), in this order; none of them counts as solved."""
        kept, sources = self._mixes.take(indices), self.sources_of(indices)
        samples = self._samples[sources]
        ((images, *_),) = self._source.batches([samples.ravel()], stream=None)
        images = images.unflatten(0, samples.shape)
        masks = upsample(torch.from_numpy(kept.masks).float(), (images.shape[3], images.shape[4]))
        masks = masks / masks.sum(dim=1, keepdim=True)  # they are kept in half precision
        return replace(
            kept,
            images=self._normalisation.pixels(mix_images(images, masks)).numpy(),
            source_indices=sources,
            source_classes=self._source.labels[samples],
            solved=np.zeros(len(indices), dtype=bool),
            holds=np.zeros(len(indices), dtype=bool),
        )
