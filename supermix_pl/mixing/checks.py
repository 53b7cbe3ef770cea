"""What every mixer asks of seed, images and labels, checked before time is spent."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing.mixer import Seed


def numbers(seed: Seed) -> list[int]:
    """Return the numbers of a seed."""
    return list(seed) if isinstance(seed, Sequence) else [seed]


def generator(seed: Seed) -> np.random.Generator:
    """Make the one source of chance of a batch."""
    named = numbers(seed)
    if not named or not all(isinstance(number, int | np.integer) and number >= 0 for number in named):
        raise ValueError(f"expected seed to be a non-negative integer or a sequence of them, got {seed!r}")
    return np.random.default_rng(named)


def check_images(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Refuse what cannot be mixed; give the images in the solver's precision, at least float32."""
    if not isinstance(images, Tensor) or images.ndim != 4 or 0 in images.shape:
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"expected images of shape (b, c, h, w) with b >= 1, got {shape}")
    if not images.is_floating_point():
        raise ValueError(
            f"expected floating point images, got {images.dtype}; convert and normalise them before they are mixed, "
            "for instance with torchvision.transforms.v2.ToDtype(torch.float32, scale=True)"
        )
    images = images.detach().as_subclass(Tensor)
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    if not bool(images.isfinite().all()):
        raise ValueError("expected finite images, got some with NaN or infinite pixels; look at the batch's transforms")
    return images


def check_rows(labels: Tensor | None, num_images: int, *, indices: bool = False) -> None:
    """Refuse labels that are no tensor with a row an image, or no class indices where these are asked for."""
    if labels is None:
        return
    if not isinstance(labels, Tensor):
        raise ValueError(f"expected labels as a tensor of class indices, got {type(labels).__name__}; convert them")
    kind = labels.ndim == 1 and not labels.is_floating_point() and labels.dtype != torch.bool
    if labels.shape[:1] != (num_images,) or (indices and not kind):
        raise ValueError(
            f"expected integer labels of shape ({num_images},), got {labels.dtype} of shape {tuple(labels.shape)}"
        )


def check_labels(labels: Int[Tensor, " b"], num_images: int, num_classes: int) -> Int[Tensor, " b"]:
    """Refuse labels that are no class indices of the teacher."""
    check_rows(labels, num_images, indices=True)
    if not bool(((labels >= 0) & (labels < num_classes)).all()):
        raise ValueError(
            f"expected labels in [0, {num_classes}), the classes that the teacher knows, got labels from "
            f"{int(labels.min())} to {int(labels.max())}; teacher and student must share the classes and their order"
        )
    return labels.long()


def fit_k(k: int, num_images: int) -> int:
    """Shrink k to a batch that is too small for it, with a warning."""
    if k > num_images:
        warnings.warn(
            f"a batch of {num_images} images is smaller than k={k}: its sets have {num_images} sources", stacklevel=3
        )
    return min(k, num_images)
