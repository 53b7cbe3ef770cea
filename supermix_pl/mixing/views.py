"""Showing mixes under a transform, with chance from a seed alone; and whether gradients flow through it."""

import random
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn

from supermix_pl.solver.rows import to_device
from supermix_pl.transforms import RandomCropFlip, View

Transform = View | nn.Module | Callable[[Tensor], Tensor]
"""Takes and gives a batch of images (b, c, h, w): a `View`, or any other, such as of torchvision or kornia."""


class Viewer:
    """Shows images under a transform.

    A `View` draws for each image from its key and its number of looks. Any other transform is called once for all of
    them, with Python's, NumPy's and torch's global generators seeded from the seed and the number of the call, and put
    back afterwards.

    Args:
        transform: None shows the images as they are.
        seed: Numbers >= 0 that name the chance of other transforms than a `View`.
        dtype: Of the images that the student gets: they are rounded to it, so that the teacher sees the same. None
            leaves them as they are.
    """

    def __init__(self, transform: Transform | None, seed: Sequence[int], dtype: torch.dtype | None = None) -> None:
        self.transform = transform
        self._seed = tuple(seed)
        self._calls = 0
        self.dtype = dtype

    def __call__(
        self, images: Float[Tensor, "b c h w"], keys: Int[Tensor, " b"], rounds: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c height width"]:
        """Show the images; of each, the key names its stream of chance, and the round which look at it this is.

        Keys and rounds are on the device of the images, or on the host: the views are drawn where these are.
        """
        return self.apply(images, self.draw(images, keys, rounds))

    def draw(self, images: Float[Tensor, "b c h w"], keys: Int[Tensor, " b"], rounds: Int[Tensor, " b"]) -> Any:
        """Draw what `apply` needs to show images of this size, on their device; None for others than a `View`."""
        if not isinstance(self.transform, View):
            return None
        return to_device(self.transform.draw(keys, rounds, (images.shape[2], images.shape[3])), images.device)

    def apply(self, images: Float[Tensor, "b c h w"], drawn: Any) -> Float[Tensor, "b c height width"]:
        """Show the images as it was drawn."""
        if self.transform is None:
            shown = images
        elif isinstance(self.transform, View):
            shown = self.transform.apply(images, drawn)
        else:
            shown = self._foreign(self.transform, images)
        return shown if self.dtype is None or self.dtype == shown.dtype else shown.to(self.dtype).to(images.dtype)

    def _foreign(self, transform: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        self._calls += 1
        with seeded((*self._seed, self._calls)):
            shown = _run(transform, images)
        if not isinstance(shown, Tensor) or shown.ndim != 4 or len(shown) != len(images):
            got = tuple(shown.shape) if isinstance(shown, Tensor) else type(shown).__name__
            raise ValueError(f"expected mixed_transform to give {len(images)} images (b, c, h, w), got {got}")
        return shown.as_subclass(Tensor).to(images.dtype)


def _run(transform: Callable[[Tensor], Tensor], images: Tensor) -> Any:
    """Return what a foreign transform gives; where images ask for a gradient, it has one, whatever the draw does."""
    if not (torch.is_grad_enabled() and images.requires_grad):
        return transform(images)
    leaf = images.detach().requires_grad_()
    try:
        shown = transform(leaf.clone())  # it may work in place
    except RuntimeError as error:
        _check_is_of_gradients(error)  # for instance "Can't call numpy() on Tensor that requires grad"
        with torch.no_grad():
            shown = transform(images.detach().clone())
    return _Through.apply(images, leaf, shown) if isinstance(shown, Tensor) else shown


class _Through(torch.autograd.Function):
    """Hands the gradient through a foreign transform; it is 0 in draws that break the graph or cannot go back."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, leaf: Tensor, shown: Tensor) -> Tensor:
        ctx.graph = leaf, shown
        return shown.detach().as_subclass(Tensor).to(images.dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        leaf, shown = ctx.graph
        through = None
        try:
            (through,) = torch.autograd.grad(shown, leaf, gradients[0].to(shown.dtype), allow_unused=True)
        except RuntimeError as error:
            _check_is_of_gradients(error)  # torchvision's bilinear rotations change in place what a gradient needs
        return torch.zeros_like(leaf) if through is None else through, None, None


def _check_is_of_gradients(error: RuntimeError) -> None:
    if "grad" not in str(error) and "inplace" not in str(error):  # of changes of hue: "is being modified inplace"
        raise error


@contextmanager
def seeded(seed: Sequence[int]) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's global generators for a while, and put them back."""
    drawn = int(np.random.default_rng(list(seed)).integers(2**63))
    isolated = isolate_rng()
    isolated.__enter__()
    try:
        random.seed(drawn)
        np.random.seed(drawn % 2**32)  # noqa: NPY002
        torch.manual_seed(drawn)
        yield
    finally:
        isolated.__exit__(None, None, None)  # of an exception it would not put them back


_TRIES = 8  # a policy such as RandAugment lets a gradient through in some of its draws
_tried: WeakKeyDictionary[Transform, bool] = WeakKeyDictionary()


def keeps_graph(transform: Transform, images: Float[Tensor, "b c h w"]) -> bool:
    """Return whether gradients flow from what a transform gives to all images that it takes, in several draws.

    It is tried once, on two of the images.
    """
    if isinstance(transform, View):
        return True
    try:
        if transform not in _tried:
            _tried[transform] = all(_keeps_graph(transform, images[:2], number) for number in range(_TRIES))
        return _tried[transform]
    except TypeError:  # it cannot be remembered
        return all(_keeps_graph(transform, images[:2], number) for number in range(_TRIES))


def _keeps_graph(transform: Transform, images: Float[Tensor, "b c h w"], number: int) -> bool:
    with torch.enable_grad():
        leaf = images.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(Viewer(transform, (number,)).apply(leaf, None).sum(), leaf)
    return bool(gradient.isfinite().all()) and bool((gradient != 0).flatten(1).any(1).all())


@lru_cache
def tell_substitute(shown: str) -> None:
    """Say, once for each transform, what masks are solved under where the student's views let no gradient through."""
    warnings.warn(
        f"no gradient flows through {shown}: the masks are solved under {RandomCropFlip()} instead, and the student "
        "sees the former. Give SuperMix(views=...) a differentiable transform to solve under another one.",
        stacklevel=4,
    )


def has_stable_repr(transform: Transform) -> bool:
    """Return whether a transform's repr names its settings and not its place in memory."""
    text = repr(transform)
    return re.search(r"\bat 0x[0-9a-f]+|<lambda>|<locals>", text) is None and text != object.__repr__(transform)
