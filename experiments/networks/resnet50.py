"""ResNet-50 for small images: bottleneck blocks behind a 3x3 stem without a pool."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl.experiments.networks.classifier import Classifier, he_initialise


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1 with batch norm, added to the input; the output has 4 times the width.

    Args:
        in_channels: Channels of the input.
        width: Channels of the 3x3 convolution.
        stride: Of the 3x3 convolution.
    """

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != 4 * width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c_out h_out w_out"]:
        """Transforms features; the last activation comes after the addition."""
        hidden = F.relu(self.bn1(self.conv1(features)))
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        return F.relu(self.bn3(self.conv3(hidden)) + self.shortcut(features))


class ResNet50(Classifier):
    """ResNet-50 for small images, 23 705 252 parameters at 100 classes.

    Its state dict has the key names of the checkpoints that the distillation literature publishes.

    Args:
        num_classes: Number of classes, at least 1.
    """

    def __init__(self, num_classes: int = 100) -> None:
        super().__init__(num_features=2048, num_classes=num_classes)
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, blocks=3, stride=1)
        self.layer2 = _stage(256, 128, blocks=4, stride=2)
        self.layer3 = _stage(512, 256, blocks=6, stride=2)
        self.layer4 = _stage(1024, 512, blocks=3, stride=2)
        self.linear = nn.Linear(2048, num_classes)
        he_initialise(self)

    def forward_with_features(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b 2048"]]:
        """Return the logits and the pooled features that the linear layer reads."""
        features = F.relu(self.bn1(self.conv1(images)))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        pooled = features.mean(dim=(2, 3))
        return self.linear(pooled), pooled


def _stage(in_channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(in_channels, width, stride)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))
