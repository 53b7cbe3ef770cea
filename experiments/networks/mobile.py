"""ShuffleNetV1 (Zhang et al., 2018; 3 groups), ShuffleNetV2 (Ma et al., 2018; x1) and MobileNetV2 for small images.

The first two start from torch's own first weights, as the published ones did.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from supermix_pl.experiments.networks.classifier import Images, Logits, convolution_and_norm, he_initialise, stage

_STEM, _GROUPS = 24, 3
# Expansion, channels at full width, blocks and stride of the first of them
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class GroupedBottleneck(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3 and grouped 1x1 convolutions beside a shortcut.

    With stride 1 the shortcut is the input, which is added; with stride 2 its average pool, which is concatenated.
    The 1x1 convolutions have 3 groups, but the first one after the stem.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.groups = 1 if in_channels == _STEM else _GROUPS
        computed = out_channels - in_channels if stride == 2 else out_channels
        width = computed // 4
        self.conv1, self.bn1 = convolution_and_norm(in_channels, width, 1, groups=self.groups)
        self.conv2, self.bn2 = convolution_and_norm(width, width, 3, stride, groups=width)
        self.conv3, self.bn3 = convolution_and_norm(width, computed, 1, groups=_GROUPS)

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c_out h_out w_out"]:
        """Transforms features; the last activation comes after the shortcut."""
        hidden = F.channel_shuffle(F.relu(self.bn1(self.conv1(features))), self.groups)
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        hidden = self.bn3(self.conv3(hidden))
        if self.stride == 1:
            return F.relu(hidden + features)
        return F.relu(torch.cat((hidden, F.avg_pool2d(features, 3, stride=2, padding=1)), dim=1))


class SplitBlock(nn.Module):
    """Transforms the second half of the channels and shuffles it with the first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = convolution_and_norm(half, half, 1)
        self.conv2, self.bn2 = convolution_and_norm(half, half, 3, groups=half)
        self.conv3, self.bn3 = convolution_and_norm(half, half, 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        kept, hidden = features.chunk(2, dim=1)
        hidden = F.relu(self.bn1(self.conv1(hidden)))
        hidden = self.bn2(self.conv2(hidden))
        hidden = F.relu(self.bn3(self.conv3(hidden)))
        return F.channel_shuffle(torch.cat((kept, hidden), dim=1), 2)


class DownBlock(nn.Module):
    """Two branches of stride 2 that read all channels and give half of the output each."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1, self.bn1 = convolution_and_norm(in_channels, in_channels, 3, stride=2, groups=in_channels)
        self.conv2, self.bn2 = convolution_and_norm(in_channels, half, 1)
        self.conv3, self.bn3 = convolution_and_norm(in_channels, half, 1)
        self.conv4, self.bn4 = convolution_and_norm(half, half, 3, stride=2, groups=half)
        self.conv5, self.bn5 = convolution_and_norm(half, half, 1)

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c_out h_out w_out"]:
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(features)))))
        right = F.relu(self.bn3(self.conv3(features)))
        right = F.relu(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return F.channel_shuffle(torch.cat((left, right), dim=1), 2)


class ShuffleV1(nn.Module):
    """ShuffleNetV1 with 3 groups, stages 240-480-960, 949 258 parameters at 100 classes."""

    def __init__(self, num_classes: int = 100) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution_and_norm(3, _STEM, 1)
        self.layer1 = stage(GroupedBottleneck, _STEM, 240, blocks=4, stride=2)
        self.layer2 = stage(GroupedBottleneck, 240, 480, blocks=8, stride=2)
        self.layer3 = stage(GroupedBottleneck, 480, 960, blocks=4, stride=2)
        self.linear = nn.Linear(960, num_classes)

    def forward(self, images: Images) -> Logits:
        features = F.relu(self.bn1(self.conv1(images)))
        pooled = self.layer3(self.layer2(self.layer1(features))).mean(dim=(2, 3))
        return self.linear(pooled)


class ShuffleV2(nn.Module):
    """ShuffleNetV2 x1, stages 116-232-464, 1 355 528 parameters at 100 classes."""

    def __init__(self, num_classes: int = 100) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution_and_norm(3, _STEM, 1)
        self.layer1 = _split_stage(_STEM, 116, blocks=4)
        self.layer2 = _split_stage(116, 232, blocks=8)
        self.layer3 = _split_stage(232, 464, blocks=4)
        self.conv2, self.bn2 = convolution_and_norm(464, 1024, 1)
        self.linear = nn.Linear(1024, num_classes)

    def forward(self, images: Images) -> Logits:
        features = F.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        pooled = F.relu(self.bn2(self.conv2(features))).mean(dim=(2, 3))
        return self.linear(pooled)


def _split_stage(in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(DownBlock(in_channels, out_channels), *(SplitBlock(out_channels) for _ in range(blocks - 1)))


class InvertedResidual(nn.Module):
    """A 1x1 expansion, a 3x3 depthwise convolution and a linear 1x1 projection, added to an input of the same shape."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = expansion * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            *Conv2dNormActivation(in_channels, width, 1),
            *Conv2dNormActivation(width, width, 3, stride, groups=width),
            *convolution_and_norm(width, out_channels, 1),
        )

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c_out h_out w_out"]:
        return features + self.conv(features) if self.residual else self.conv(features)


class MobileNetV2(nn.Module):
    """MobileNetV2 (Sandler et al., 2018), half the channels, for small images; 812 836 parameters at 100 classes."""

    def __init__(self, num_classes: int = 100) -> None:
        super().__init__()
        self.conv1 = Conv2dNormActivation(3, 16, 3, stride=2)
        in_channels = 16
        self.blocks = nn.Sequential()
        for expansion, full_width, blocks, stride in _STAGES:
            stage = nn.Sequential()
            for position in range(blocks):
                stage.append(InvertedResidual(in_channels, full_width // 2, 1 if position else stride, expansion))
                in_channels = full_width // 2
            self.blocks.append(stage)
        self.conv2 = Conv2dNormActivation(in_channels, 1280, 1)
        linear = nn.Linear(1280, num_classes)
        self.classifier = nn.Sequential(linear)
        he_initialise(self)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)

    def forward(self, images: Images) -> Logits:
        pooled = self.conv2(self.blocks(self.conv1(images))).mean(dim=(2, 3))
        return self.classifier(pooled)
