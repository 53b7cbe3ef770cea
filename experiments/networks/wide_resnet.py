"""Wide ResNets for small images (Zagoruyko and Komodakis, 2016): pre-activation blocks, stages 16w-32w-64w."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl.experiments.networks.classifier import Classifier, he_initialise


class PreActivationBlock(nn.Module):
    """Batch norm, activation and 3x3 convolution, twice, added to the input.

    Where the number of channels changes, the shortcut is a 1x1 convolution of the *activated* input.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the first convolution.
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


class Stage(nn.Module):
    """Blocks of one width; published checkpoints name them `blockN.layer.M`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of every block's output.
        blocks: Number of blocks, at least 1.
        stride: Stride of the first block.
    """

    def __init__(self, in_channels: int, out_channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = PreActivationBlock(in_channels, out_channels, stride)
        rest = (PreActivationBlock(out_channels, out_channels, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(first, *rest)

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c_out h_out w_out"]:
        """Applies the blocks one after the other."""
        return self.layer(features)


class WideResNet(Classifier):
    """Wide ResNet: a 3x3 stem of 16, three stages, batch norm, global average, one linear layer.

    Its state dict has the key names of the checkpoints that the distillation literature publishes.

    Args:
        depth: 6 n + 4 for n blocks in a stage.
        width: Factor on the stages' 16, 32 and 64 channels.
        num_classes: Number of classes, at least 1.
    """

    def __init__(self, *, depth: int, width: int, num_classes: int) -> None:
        super().__init__(num_features=64 * width, num_classes=num_classes)
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"expected depth = 6 n + 4 with n >= 1 (16, 28, 40 ...), got {depth}")
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = Stage(16, 16 * width, blocks, stride=1)
        self.block2 = Stage(16 * width, 32 * width, blocks, stride=2)
        self.block3 = Stage(32 * width, 64 * width, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, num_classes)
        he_initialise(self)
        nn.init.zeros_(self.fc.bias)

    def forward_with_features(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b c"]]:
        """Return the logits and the pooled features that the linear layer reads."""
        features = self.block3(self.block2(self.block1(self.conv1(images))))
        pooled = F.relu(self.bn1(features)).mean(dim=(2, 3))
        return self.fc(pooled), pooled


def wrn_16_1(num_classes: int = 100) -> WideResNet:
    """WRN-16-1, 180 916 parameters at 100 classes."""
    return WideResNet(depth=16, width=1, num_classes=num_classes)


def wrn_16_2(num_classes: int = 100) -> WideResNet:
    """WRN-16-2, 703 284 parameters at 100 classes."""
    return WideResNet(depth=16, width=2, num_classes=num_classes)


def wrn_40_1(num_classes: int = 100) -> WideResNet:
    """WRN-40-1, 569 780 parameters at 100 classes."""
    return WideResNet(depth=40, width=1, num_classes=num_classes)


def wrn_40_2(num_classes: int = 100) -> WideResNet:
    """WRN-40-2, 2 255 156 parameters at 100 classes."""
    return WideResNet(depth=40, width=2, num_classes=num_classes)


def wrn_28_10(num_classes: int = 100) -> WideResNet:
    """WRN-28-10, 36 536 884 parameters at 100 classes."""
    return WideResNet(depth=28, width=10, num_classes=num_classes)
