"""SaliencyMix: a box around the most salient pixel of another image is pasted on the image."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.arguments import check_positive
from supermix_pl.mixing.blind import Chosen, Composed, DirectMixer
from supermix_pl.mixing.sampling import draw_weights
from supermix_pl.solver.rows import to_device

_RADII = (12, 24, 28, 48, 56, 112)


@dataclass(frozen=True, kw_only=True)
class SaliencyMix(DirectMixer):
    """Paste a box around the most salient pixel of another image on every image, in the place that it comes from.

    Uddin et al., "SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better Regularization", ICLR 2021. The
    box has sqrt(1 - lambda) of the image's sides, where lambda is drawn from Beta(alpha, alpha). Its centre is the
    pixel of highest saliency. What would lie outside the image is cut off, and the weights of the mix are the visible
    areas. The masks are 0 and 1. k is 2. The teacher has no part in it.

    Deviation: the saliency is our own writing of the fine-grained one of Montabone and Soto, "Human Detection Using a
    Mobile Platform and Novel Features Derived From a Visual Saliency Mechanism", 2010, which the paper takes from
    OpenCV; see `fine_grained_saliency`. Pixels of highest saliency may differ from OpenCV's.

    Args:
        alpha: Of the Beta distribution of lambda, > 0.

    The other arguments, and the errors, are those of `DirectMixer`.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_positive("alpha", self.alpha)
        super().__post_init__()

    def place(self, chosen: Chosen) -> Composed:
        """Look for the centres, and paste the boxes."""
        sources = chosen.sources
        share = np.sqrt(draw_weights(chosen.rng, len(sources), 2, self.alpha)[:, 1])
        share = to_device(share, sources.device, sources.dtype)
        peaks = fine_grained_saliency(sources[:, 1]).flatten(1).argmax(dim=1)
        height, width = sources.shape[3:]
        rows, columns = (
            _interval(share, centre, length) for centre, length in ((peaks // width, height), (peaks % width, width))
        )
        box = (rows[:, :, None] & columns[:, None, :]).to(sources)
        return Composed.of(sources, torch.stack([1 - box, box], dim=1))


def _interval(share: Float[Tensor, " b"], centre: Int[Tensor, " b"], length: int) -> Tensor:
    """Return which pixels of a side are in intervals of a share of it; an even one has its centre behind its middle."""
    extent = (share * length).round().long()
    start = centre - extent // 2
    pixels = torch.arange(length, device=share.device)
    return (pixels >= start[:, None]) & (pixels < (start + extent)[:, None])


def fine_grained_saliency(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """Measure how far each pixel is from its surroundings: the sum of |i - s_r| over r = 12, 24, 28, 48, 56 and 112.

    i is the intensity, the mean over the channels. s_r is the mean of the other pixels of the square of 2 r + 1 pixels
    around it, as far as they are in the image. The sum has the centres that are brighter (on) and darker (off) than
    their surroundings in equal parts (Montabone and Soto, 2010).
    """
    intensity = images.mean(dim=1)
    rows, columns = (torch.arange(length, device=images.device) for length in intensity.shape[1:])
    saliency = torch.zeros_like(intensity)
    for radius in _RADII:
        down, right = (((axis[:, None] - axis).abs() <= radius).to(images) for axis in (rows, columns))
        others = (down.sum(dim=1)[:, None] * right.sum(dim=1) - 1).clamp_min(1)
        saliency += (intensity - (down @ intensity @ right - intensity) / others).abs()
    return saliency
