"""Few different numbers of images for a teacher whose passes are compiled for each."""

import torch
from jaxtyping import Float
from torch import Tensor


def bucket(rows: int, largest: int) -> int:
    """Round a number of images up to a power of two, or to the largest number that there will be.

    >>> [bucket(rows, 100) for rows in (1, 3, 64, 65, 100)]
    [1, 4, 64, 100, 100]
    """
    return min(1 << (rows - 1).bit_length(), largest)


def fill_up(images: Float[Tensor, "r c h w"], rows: int) -> Float[Tensor, "rows c h w"]:
    """Repeat the last image, without a gradient, until there are `rows` of them."""
    missing = rows - len(images)
    return torch.cat([images, images[-1:].detach().expand(missing, -1, -1, -1)]) if missing else images
