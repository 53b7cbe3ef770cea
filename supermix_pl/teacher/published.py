"""Networks of timm and torchvision, with their weights and what they were normalised with."""

from difflib import get_close_matches
from typing import Any

import torchvision.models
from torch import nn

Published = tuple[nn.Module, tuple[float, ...], tuple[float, ...]]
"""A network, and the mean and std of its images, one value a channel."""


def of_timm(name: str, pretrained: bool, **settings: Any) -> Published:
    """Build a network of timm; see `FrozenTeacher.from_timm`."""
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'expected timm for {name}, got none; pip install "supermix_pl[timm]"') from error
    if ":" not in name and not timm.is_model(name):  # others are fetched from where they say
        similar = ", ".join(get_close_matches(name, timm.list_models())) or "timm.list_models()"
        raise ValueError(f"expected the name of a network of timm, such as {similar}, got {name!r}")
    network: Any = timm.create_model(name, pretrained=pretrained, **settings)
    config = network.pretrained_cfg
    return network, tuple(config["mean"]), tuple(config["std"])


def of_torchvision(weights: Any, pretrained: bool) -> Published:
    """Build the classifier of torchvision that weights belong to; see `FrozenTeacher.from_torchvision`."""
    if isinstance(weights, str):
        weights = torchvision.models.get_weight(weights)
    names = torchvision.models.list_models(torchvision.models)
    name = next((name for name in names if weights in list(torchvision.models.get_model_weights(name))), None)
    if name is None:
        raise ValueError(
            "expected weights of a classifier of torchvision, such as torchvision.models.ResNet50_Weights.DEFAULT, got "
            f"{weights!r}"
        )
    network = torchvision.models.get_model(name, weights=weights if pretrained else None)
    transform = weights.transforms()
    return network, tuple(transform.mean), tuple(transform.std)
