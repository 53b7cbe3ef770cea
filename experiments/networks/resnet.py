"""CIFAR ResNets: resnetN (stages 16-32-64), the wide resnetNx4 (64-128-256), and ResNet-50 of bottlenecks."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from supermix_pl.experiments.networks.classifier import (
    Images,
    Logits,
    convolution_and_norm,
    he_initialise,
    named,
    stage,
)


def _basic_block(in_channels: int, out_channels: int, stride: int) -> BasicBlock:
    """Return torchvision's block, with a 1x1 convolution beside it where the shape changes."""
    same_shape = stride == 1 and in_channels == out_channels
    shortcut = None if same_shape else convolution_and_norm(in_channels, out_channels, 1, stride)
    return BasicBlock(in_channels, out_channels, stride, shortcut)


class CifarResNet(nn.Module):
    """ResNet for small images: a 3x3 stem, three stages of basic blocks, global average, one linear layer.

    Args:
        depth: 6 n + 2 for n basic blocks in a stage.
        widths: Channels of the stem and of the three stages.
        num_classes: Number of classes, at least 1.
    """

    def __init__(self, *, depth: int, widths: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1, self.bn1 = convolution_and_norm(3, widths[0], 3)
        self.layer1 = stage(_basic_block, widths[0], widths[1], blocks, stride=1)
        self.layer2 = stage(_basic_block, widths[1], widths[2], blocks, stride=2)
        self.layer3 = stage(_basic_block, widths[2], widths[3], blocks, stride=2)
        self.fc = nn.Linear(widths[3], num_classes)
        he_initialise(self)

    def forward(self, images: Images) -> Logits:
        features = F.relu(self.bn1(self.conv1(images)))
        pooled = self.layer3(self.layer2(self.layer1(features))).mean(dim=(2, 3))
        return self.fc(pooled)


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1 with batch norm, added to the input; the output has 4 times the width.

    torchvision's has its stride in the same place, but published checkpoints have another name for the shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        width = out_channels // 4
        self.conv1, self.bn1 = convolution_and_norm(in_channels, width, 1)
        self.conv2, self.bn2 = convolution_and_norm(width, width, 3, stride)
        self.conv3, self.bn3 = convolution_and_norm(width, out_channels, 1)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = convolution_and_norm(in_channels, out_channels, 1, stride)

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c_out h_out w_out"]:
        hidden = F.relu(self.bn1(self.conv1(features)))
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        return F.relu(self.bn3(self.conv3(hidden)) + self.shortcut(features))


class ResNet50(nn.Module):
    """ResNet-50 for small images, behind a 3x3 stem without a pool; 23 705 252 parameters at 100 classes."""

    def __init__(self, num_classes: int = 100) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution_and_norm(3, 64, 3)
        self.layer1 = stage(Bottleneck, 64, 256, blocks=3, stride=1)
        self.layer2 = stage(Bottleneck, 256, 512, blocks=4, stride=2)
        self.layer3 = stage(Bottleneck, 512, 1024, blocks=6, stride=2)
        self.layer4 = stage(Bottleneck, 1024, 2048, blocks=3, stride=2)
        self.linear = nn.Linear(2048, num_classes)
        he_initialise(self)

    def forward(self, images: Images) -> Logits:
        features = F.relu(self.bn1(self.conv1(images)))
        pooled = self.layer4(self.layer3(self.layer2(self.layer1(features)))).mean(dim=(2, 3))
        return self.linear(pooled)


_NARROW, _WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
# Parameters at 100 classes: 83 892, 181 108, 278 324, 472 756, 667 188, 861 620, 1 736 564, 1 233 540, 7 433 860
resnet8 = named("resnet8", CifarResNet, depth=8, widths=_NARROW)
resnet14 = named("resnet14", CifarResNet, depth=14, widths=_NARROW)
resnet20 = named("resnet20", CifarResNet, depth=20, widths=_NARROW)
resnet32 = named("resnet32", CifarResNet, depth=32, widths=_NARROW)
resnet44 = named("resnet44", CifarResNet, depth=44, widths=_NARROW)
resnet56 = named("resnet56", CifarResNet, depth=56, widths=_NARROW)
resnet110 = named("resnet110", CifarResNet, depth=110, widths=_NARROW)
resnet8x4 = named("resnet8x4", CifarResNet, depth=8, widths=_WIDE)
resnet32x4 = named("resnet32x4", CifarResNet, depth=32, widths=_WIDE)
