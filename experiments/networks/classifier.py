"""What all networks share: logits beside the pooled features that they are read from, stages, and first weights."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

Images = Float[Tensor, "b 3 h w"]
Logits = Float[Tensor, "b n"]
LogitsAndFeatures = tuple[Float[Tensor, "b n"], Float[Tensor, "b c"]]
Network = TypeVar("Network", bound=nn.Module)


class Classifier(nn.Module, ABC):
    """A network that gives the logits of images and the pooled features that its last linear layer reads.

    The state dicts of those for small images have the key names of the checkpoints that the literature publishes.

    Args:
        num_features: Width of the pooled features; every network of the package has it as an attribute.
        num_classes: Number of classes, at least 1.
    """

    def __init__(self, *, num_features: int, num_classes: int) -> None:
        super().__init__()
        check_num_classes(num_classes)
        self.num_features = num_features

    def forward(self, images: Images) -> Logits:
        """Return the logits of normalised images."""
        return self.forward_with_features(images)[0]

    @abstractmethod
    def forward_with_features(self, images: Images) -> LogitsAndFeatures:
        """Return the logits and the pooled features (b, num_features) that the last linear layer reads."""


def named(name: str, network: Callable[..., Network], **settings: Any) -> Callable[..., Network]:
    """Return a function of that name that builds a network with these settings, of 100 classes if not told others."""

    def build(num_classes: int = 100) -> Network:
        return network(num_classes=num_classes, **settings)

    build.__name__ = build.__qualname__ = name
    build.__module__ = network.__module__
    return build


def check_num_classes(num_classes: int) -> None:
    """Refuse a network without classes."""
    if num_classes < 1:
        raise ValueError(f"expected num_classes >= 1, got {num_classes}: give the number of classes of the data")


def stage(
    block: Callable[[int, int, int], nn.Module], in_channels: int, out_channels: int, blocks: int, stride: int
) -> nn.Sequential:
    """Return blocks of one width in a row; the first one takes in other channels and has the stride."""
    first = block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(block(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def convolution_and_norm(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return a 1x1 convolution with batch norm: a shortcut where the shape changes."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


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
