"""Transforms of a batch of mixes, one draw an image, for `SuperMixCallback(mixed_transform=...)`."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from supermix_pl.arguments import check_at_least, check_probability, check_statistics, check_transform


class RandomCropFlip:
    """Shift and flip every image on its own: the paper's view of the mixes.

    Chance comes from torch's global generator, as in torchvision.transforms.v2; inside the callback that one is seeded
    for the batch and put back afterwards.

    Args:
        padding: Pixels of zeros added on every side before the crop, >= 0. The authors' code has 2 for mixes.
        flip_probability: Share of the images that are mirrored, in [0, 1].
    """

    def __init__(self, padding: int = 2, flip_probability: float = 0.5) -> None:
        check_at_least("padding", padding, 0)
        check_probability("flip_probability", flip_probability)
        self.padding = padding
        self.flip_probability = flip_probability

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Crop every padded image back to its size at a random place, and mirror some."""
        count, _, height, width = images.shape
        padded = pad(images, [self.padding] * 4)
        tops, lefts = torch.randint(0, 2 * self.padding + 1, (2, count)).to(images.device)
        mirrored = (torch.rand(count) < self.flip_probability).to(images.device)
        rows = tops[:, None] + torch.arange(height, device=images.device)
        across = torch.arange(width, device=images.device).expand(count, -1)
        columns = lefts[:, None] + torch.where(mirrored[:, None], width - 1 - across, across)
        image = torch.arange(count, device=images.device)
        picked = padded.permute(0, 2, 3, 1)[image[:, None, None], rows[:, :, None], columns[:, None, :]]
        return picked.permute(0, 3, 1, 2)


class PerImage:
    """Apply a torchvision transform to every image on its own, in [0, 1], and normalise it back.

    torchvision.transforms.v2 draws once a call, which would give all images of a batch one crop or one policy.

    Args:
        transform: Takes and gives an image (c, h, w) in [0, 1], such as torchvision.transforms.v2.RandAugment().
        mean: Per channel, what the batch is normalised with; None if it is in [0, 1].
        std: Per channel, > 0, likewise.
    """

    def __init__(
        self,
        transform: Callable[[Tensor], Tensor],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        check_transform("transform", transform)
        check_statistics(mean, std)
        self.transform = transform
        self._mean = torch.tensor([0.0] if mean is None else list(mean))[:, None, None]
        self._std = torch.tensor([1.0] if std is None else list(std))[:, None, None]

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """De-normalise, transform one by one, normalise."""
        if len(self._mean) not in (1, images.shape[1]):
            raise ValueError(
                f"expected images with {len(self._mean)} channels, as mean and std have, got {images.shape[1]}"
            )
        mean, std = self._mean.to(images), self._std.to(images)
        pixels = (images * std + mean).clamp(0, 1)
        return (torch.stack([self.transform(image) for image in pixels]) - mean) / std
