"""VGG with batch norm for small images (Simonyan and Zisserman, 2015): global average and one linear layer."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import nn

from supermix_pl.experiments.networks.classifier import Images, Logits, he_initialise, named

_WIDTHS = (64, 128, 256, 512, 512)


class CifarVgg(nn.Module):
    """Five blocks of 3x3 convolutions with batch norm, 64-128-256-512-512 channels, a 2x2 pool after the first three.

    Args:
        convolutions: How many each of the five blocks has, at least 1.
        num_classes: Number of classes, at least 1.
    """

    def __init__(self, *, convolutions: Sequence[int], num_classes: int) -> None:
        super().__init__()
        in_widths = (3, *_WIDTHS[:-1])
        self.block0, self.block1, self.block2, self.block3, self.block4 = map(_block, in_widths, _WIDTHS, convolutions)
        self.classifier = nn.Linear(_WIDTHS[-1], num_classes)
        he_initialise(self)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Images) -> Logits:
        features = images
        for block in (self.block0, self.block1, self.block2):
            features = F.max_pool2d(F.relu(block(features)), 2)
        features = F.relu(self.block4(F.relu(self.block3(features))))
        pooled = features.mean(dim=(2, 3))
        return self.classifier(pooled)


def _block(in_channels: int, out_channels: int, convolutions: int) -> nn.Sequential:
    """Return convolutions and batch norms; the last activation is left to the network."""
    layers: list[nn.Module] = []
    for position in range(convolutions):
        channels = out_channels if position else in_channels
        layers += [nn.Conv2d(channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


# Parameters at 100 classes: 3 965 028, 9 277 284, 9 462 180, 14 774 436, 20 086 692
vgg8 = named("vgg8", CifarVgg, convolutions=(1, 1, 1, 1, 1))
vgg11 = named("vgg11", CifarVgg, convolutions=(1, 1, 2, 2, 2))
vgg13 = named("vgg13", CifarVgg, convolutions=(2, 2, 2, 2, 2))
vgg16 = named("vgg16", CifarVgg, convolutions=(2, 2, 3, 3, 3))
vgg19 = named("vgg19", CifarVgg, convolutions=(2, 2, 4, 4, 4))
