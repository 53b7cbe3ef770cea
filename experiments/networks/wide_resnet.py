"""Wide ResNets for small images (Zagoruyko and Komodakis, 2016): pre-activation blocks, stages 16w-32w-64w."""

from collections import OrderedDict

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl.experiments.networks.classifier import Images, Logits, he_initialise, named, stage


class PreActivationBlock(nn.Module):
    """Batch norm, activation and 3x3 convolution, twice, added to the input.

    Where the number of channels changes, the shortcut is a 1x1 convolution of the *activated* input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.convShortcut = None
        if in_channels != out_channels:
            self.convShortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c_out h_out w_out"]:
        """Transforms features; no activation after the addition."""
        activated = F.relu(self.bn1(features))
        shortcut = features if self.convShortcut is None else self.convShortcut(activated)
        hidden = F.relu(self.bn2(self.conv1(activated)))
        return shortcut + self.conv2(hidden)


class WideResNet(nn.Module):
    """Wide ResNet: a 3x3 stem of 16, three stages, batch norm, global average, one linear layer.

    Args:
        depth: 6 n + 4 for n blocks in a stage.
        width: Factor on the stages' 16, 32 and 64 channels.
        num_classes: Number of classes, at least 1.
    """

    def __init__(self, *, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = _stage(16, 16 * width, blocks, stride=1)
        self.block2 = _stage(16 * width, 32 * width, blocks, stride=2)
        self.block3 = _stage(32 * width, 64 * width, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, num_classes)
        he_initialise(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Images) -> Logits:
        features = self.block3(self.block2(self.block1(self.conv1(images))))
        pooled = F.relu(self.bn1(features)).mean(dim=(2, 3))
        return self.fc(pooled)


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layer=stage(PreActivationBlock, in_channels, out_channels, blocks, stride)))


# Parameters at 100 classes: 180 916, 703 284, 569 780, 2 255 156, 36 536 884
wrn_16_1 = named("wrn_16_1", WideResNet, depth=16, width=1)
wrn_16_2 = named("wrn_16_2", WideResNet, depth=16, width=2)
wrn_40_1 = named("wrn_40_1", WideResNet, depth=40, width=1)
wrn_40_2 = named("wrn_40_2", WideResNet, depth=40, width=2)
wrn_28_10 = named("wrn_28_10", WideResNet, depth=28, width=10)
