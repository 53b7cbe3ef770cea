"""From the statistics that a batch is normalised with to those of the teacher."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from supermix_pl.arguments import check_statistics

Statistic = Sequence[float] | None
"""One value a channel; None where images are in [0, 1]."""


class Normalisation:
    """Brings images from one normalisation into another: x -> scale x + shift. The arguments are `FrozenTeacher`'s."""

    def __init__(self, mean: Statistic, std: Statistic, input_mean: Statistic, input_std: Statistic) -> None:
        check_statistics(mean, std)
        check_statistics(input_mean, input_std, "input_mean and input_std")
        self._affine: Float[Tensor, "2 c 1 1"] | None = None
        self._held: Float[Tensor, "2 c 1 1"] | None = None
        known = mean if mean is not None else input_mean
        if known is None:
            return
        empty, full = [0.0] * len(known), [1.0] * len(known)
        pairs = ((mean, empty), (std, full), (input_mean, empty), (input_std, full))
        statistics = [default if given is None else list(given) for given, default in pairs]
        if len({len(statistic) for statistic in statistics}) != 1:
            raise ValueError(
                "expected mean, std, input_mean and input_std with one value a channel each, got "
                f"{[len(statistic) for statistic in statistics]} values"
            )
        with torch.inference_mode(False):
            own_mean, own_std, batch_mean, batch_std = torch.tensor(statistics, dtype=torch.float64)
            self._affine = torch.stack([batch_std / own_std, (batch_mean - own_mean) / own_std])[:, :, None, None]

    @torch.inference_mode(False)
    def _like(self, images: Tensor) -> Tensor | None:
        """Keep scale and shift at hand as the last images needed them, rounded from float64 and fit for autograd."""
        held = self._held
        if self._affine is not None and (held is None or held.device != images.device or held.dtype != images.dtype):
            self._held = held = self._affine.to(images)
        return held

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the images as the teacher's statistics have them."""
        if (affine := self._like(images)) is None:
            return images
        scale, shift = affine
        if len(scale) not in (1, images.shape[1]):
            raise ValueError(
                f"expected images with {len(scale)} channels, as many as the teacher's mean and std have, got "
                f"{images.shape[1]}"
            )
        return images * scale + shift

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the next call makes anew."""
        return vars(self) | {"_held": None}
