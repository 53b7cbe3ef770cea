"""CIFAR ResNets: resnetN (stages 16-32-64) and the wide resnetNx4 (stages 64-128-256)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl.experiments.networks.classifier import Classifier, he_initialise


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the input (through a 1x1 convolution where the shape changes).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c_out h_out w_out"]:
        """Transforms features; the last activation comes after the addition."""
        shortcut = features if self.downsample is None else self.downsample(features)
        hidden = F.relu(self.bn1(self.conv1(features)))
        return F.relu(self.bn2(self.conv2(hidden)) + shortcut)


class CifarResNet(Classifier):
    """ResNet for small images: a 3x3 stem, three stages of basic blocks, global average, one linear layer.

    Its state dict has the key names of the checkpoints that the distillation literature publishes.

    Args:
        blocks: Basic blocks in each stage, at least 1.
        widths: Channels of the stem and of the three stages.
        num_classes: Number of classes, at least 1.
    """

    def __init__(self, *, blocks: int, widths: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__(num_features=widths[3], num_classes=num_classes)
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(widths[0], widths[1], blocks, stride=1)
        self.layer2 = _stage(widths[1], widths[2], blocks, stride=2)
        self.layer3 = _stage(widths[2], widths[3], blocks, stride=2)
        self.fc = nn.Linear(widths[3], num_classes)
        he_initialise(self)

    def forward_with_features(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b c"]]:
        """Return the logits and the pooled features that the linear layer reads."""
        features = F.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        pooled = features.mean(dim=(2, 3))
        return self.fc(pooled), pooled


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def _narrow(depth: int, num_classes: int) -> CifarResNet:
    return CifarResNet(blocks=(depth - 2) // 6, widths=(16, 16, 32, 64), num_classes=num_classes)


def _wide(depth: int, num_classes: int) -> CifarResNet:
    return CifarResNet(blocks=(depth - 2) // 6, widths=(32, 64, 128, 256), num_classes=num_classes)


def resnet8(num_classes: int = 100) -> CifarResNet:
    """ResNet-8, 83 892 parameters at 100 classes."""
    return _narrow(8, num_classes)


def resnet14(num_classes: int = 100) -> CifarResNet:
    """ResNet-14, 181 108 parameters at 100 classes."""
    return _narrow(14, num_classes)


def resnet20(num_classes: int = 100) -> CifarResNet:
    """ResNet-20, 278 324 parameters at 100 classes."""
    return _narrow(20, num_classes)


def resnet32(num_classes: int = 100) -> CifarResNet:
    """ResNet-32, 472 756 parameters at 100 classes."""
    return _narrow(32, num_classes)


def resnet44(num_classes: int = 100) -> CifarResNet:
    """ResNet-44, 667 188 parameters at 100 classes."""
    return _narrow(44, num_classes)


def resnet56(num_classes: int = 100) -> CifarResNet:
    """ResNet-56, 861 620 parameters at 100 classes."""
    return _narrow(56, num_classes)


def resnet110(num_classes: int = 100) -> CifarResNet:
    """ResNet-110, 1 736 564 parameters at 100 classes."""
    return _narrow(110, num_classes)


def resnet8x4(num_classes: int = 100) -> CifarResNet:
    """ResNet-8 four times as wide, 1 233 540 parameters at 100 classes."""
    return _wide(8, num_classes)


def resnet32x4(num_classes: int = 100) -> CifarResNet:
    """ResNet-32 four times as wide, 7 433 860 parameters at 100 classes."""
    return _wide(32, num_classes)
