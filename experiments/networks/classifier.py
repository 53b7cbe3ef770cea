"""What all networks share: logits beside the pooled features that they are read from, and first weights."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Classifier(nn.Module, ABC):
    """A network that gives the logits of images and the pooled features that its last linear layer reads.

    Args:
        num_features: Width of the pooled features.
        num_classes: Number of classes, at least 1.

    Attributes:
        num_features: As given; every network of the package has it.
    """

    def __init__(self, *, num_features: int, num_classes: int) -> None:
        super().__init__()
        check_num_classes(num_classes)
        self.num_features = num_features

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
        """Return the logits of normalised images."""
        return self.forward_with_features(images)[0]

    @abstractmethod
    def forward_with_features(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b c"]]:
        """Return the logits and the pooled features (b, num_features) that the last linear layer reads."""


def check_num_classes(num_classes: int) -> None:
    """Refuse a network without classes."""
    if num_classes < 1:
        raise ValueError(f"expected num_classes >= 1, got {num_classes}: give the number of classes of the data")


def he_initialise(network: nn.Module) -> None:
    """Draw the weights of all convolutions from N(0, 2 / fan out) (He et al., 2015) and set their biases to 0.

    Fan out counts the channels of all groups. Batch norms keep scale 1 and shift 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
