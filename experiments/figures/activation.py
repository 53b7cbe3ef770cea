"""Class activation maps: where in an image a network finds a class. Needs the extra `figures`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate

from supermix_pl import FrozenTeacher


def check_installed() -> None:
    """Refuse to begin without torchcam.

    Raises:
        ImportError: If it is not there; the message says what brings it.
    """
    _grad_cam()


def class_activation(
    teacher: FrozenTeacher, images: Float[Tensor, "b c h w"], classes: Int[Tensor, " b"]
) -> Float[Tensor, "b h w"]:
    """Map where the teacher finds one class in each image (Grad-CAM, Selvaraju et al., 2017).

    The maps are of the last layer that has a place for every part of the image, and up-sampled.

    Args:
        teacher: A convolutional network.
        images: Normalised for it.
        classes: The class to look for in each.

    Returns:
        Maps in [0, 1], each relative to its own largest value; 0 where the class finds no support.

    Raises:
        ImportError: Without torchcam.
        ValueError: If no layer of the teacher gives maps.
    """
    grad_cam = _grad_cam()
    with torch.enable_grad():
        prepared = teacher.prepare(images).detach().requires_grad_()
        layer = _last_map(teacher.module, prepared[:1])
        with grad_cam(teacher.module, target_layer=layer) as extract:
            output = teacher.module(prepared)
            maps = extract(classes.tolist(), getattr(output, "logits", output), normalized=False)[0]
    maps = interpolate(maps[:, None].float(), images.shape[-2:], mode="bilinear").squeeze(1).detach()
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)


def _last_map(network: nn.Module, image: Float[Tensor, "1 c h w"]) -> nn.Module:
    """Find the module that was called last of those that give maps of more than one place."""
    found: list[nn.Module] = []
    watched = [module for module in network.modules() if module is not network]
    handles = [module.register_forward_hook(partial(_note, found.append)) for module in watched]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise ValueError(
            f"expected a network with convolutional maps, got {type(network).__name__} without any; use --no-cam"
        )
    return found[-1]


def _note(take: Callable[[nn.Module], None], module: nn.Module, _inputs: Any, output: Any) -> None:
    if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
        take(module)


def _grad_cam() -> Any:
    try:
        from torchcam.methods import GradCAM
    except ImportError as error:
        raise ImportError(
            'class activation maps need torchcam: pip install "supermix_pl[figures]"; --no-cam draws without them'
        ) from error
    return GradCAM
