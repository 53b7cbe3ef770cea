"""MobileNetV2 (Sandler et al., 2018) at half width for small images."""

from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl.experiments.networks.classifier import Classifier, Images, LogitsAndFeatures, he_initialise

# Expansion, channels at full width, blocks and stride of the first of them
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """A 1x1 expansion, a 3x3 depthwise convolution and a linear 1x1 projection, added to an input of the same shape."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = expansion * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            *_activated(nn.Conv2d(in_channels, width, 1, bias=False)),
            *_activated(nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False)),
            nn.Conv2d(width, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c_out h_out w_out"]:
        """Transforms features; no activation at the end."""
        return features + self.conv(features) if self.residual else self.conv(features)


class MobileNetV2(Classifier):
    """MobileNetV2 with half the channels and ReLU for small images, 812 836 parameters at 100 classes."""

    def __init__(self, num_classes: int = 100) -> None:
        super().__init__(num_features=1280, num_classes=num_classes)
        self.conv1 = nn.Sequential(*_activated(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)))
        in_channels = 16
        self.blocks = nn.Sequential()
        for expansion, full_width, blocks, stride in _STAGES:
            stage = nn.Sequential()
            for position in range(blocks):
                stage.append(InvertedResidual(in_channels, full_width // 2, 1 if position else stride, expansion))
                in_channels = full_width // 2
            self.blocks.append(stage)
        self.conv2 = nn.Sequential(*_activated(nn.Conv2d(in_channels, 1280, 1, bias=False)))
        linear = nn.Linear(1280, num_classes)
        self.classifier = nn.Sequential(linear)
        he_initialise(self)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)

    def forward_with_features(self, images: Images) -> LogitsAndFeatures:
        """Return the logits and the pooled features that the linear layer reads."""
        pooled = self.conv2(self.blocks(self.conv1(images))).mean(dim=(2, 3))
        return self.classifier(pooled), pooled


def _activated(convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
    return convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)
