"""What all networks share: the layer that gives the logits, the features that it reads, stages, and first weights."""

from collections.abc import Callable
from typing import Any, TypeVar

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

Images = Float[Tensor, "b 3 h w"]
Logits = Float[Tensor, "b n"]
Network = TypeVar("Network", bound=nn.Module)


def last_linear(network: nn.Module) -> nn.Linear:
    """Return the last linear layer of a network, which gives its logits.

    Raises:
        TypeError: If it has none.
    """
    layers = [part for part in network.modules() if isinstance(part, nn.Linear)]
    if not layers:
        raise TypeError(f"expected a network that ends in a linear layer, got {type(network).__name__} without one")
    return layers[-1]


def with_features(network: nn.Module, images: Float[Tensor, "b c h w"]) -> tuple[Logits, Float[Tensor, "b d"]]:
    """Return the logits of images, and the features that the last linear layer reads.

    Raises:
        TypeError: If that layer gives no logits, as where a convolution does.
    """
    seen: list[Tensor] = []
    layer = last_linear(network)
    with layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        logits = network(images)
    if not seen or layer.out_features != logits.shape[1]:
        raise TypeError(
            f"expected the last linear layer of {type(network).__name__} to give its {logits.shape[1]} logits, got "
            f"one of {layer.out_features} outputs that {'gives others' if seen else 'is not called'}; choose another "
            "network"
        )
    return logits, seen[0]


def named(name: str, network: Callable[..., Network], **settings: Any) -> Callable[..., Network]:
    """Return a function of that name that builds a network with these settings, of 100 classes if not told others."""

    def build(num_classes: int = 100) -> Network:
        return network(num_classes=num_classes, **settings)

    build.__name__ = build.__qualname__ = name
    build.__module__ = network.__module__
    return build


def stage(
    block: Callable[[int, int, int], nn.Module], in_channels: int, out_channels: int, blocks: int, stride: int
) -> nn.Sequential:
    """Return blocks of one width in a row; the first one takes in other channels and has the stride."""
    first = block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(block(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def convolution_and_norm(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, groups: int = 1
) -> nn.Sequential:
    """Return a convolution without bias, padded by half its kernel, and a batch norm."""
    return Conv2dNormActivation(in_channels, out_channels, kernel_size, stride, groups=groups, activation_layer=None)


def he_initialise(network: nn.Module) -> None:
    """Draw the weights of all convolutions from N(0, 2 / fan out) (He et al., 2015) and set their biases to 0.

    Fan out counts the channels of all groups. Batch norms keep scale 1 and shift 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def compile_in_place(network: nn.Module, *, on_gpu: bool) -> None:
    """Compile a network's calls, on a GPU into CUDA graphs; weights keep their names, and copies are not compiled."""
    network.compile(dynamic=False, mode="reduce-overhead" if on_gpu else None)
