"""ImageNet's ResNets and VGG-16: torchvision's own, with pooled features, and ResNet-200 from the same blocks."""

from collections.abc import Sequence
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet34_Weights, ResNet50_Weights, VGG16_Weights, WeightsEnum
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import VGG, cfgs, make_layers

from supermix_pl.experiments.networks.classifier import check_num_classes

Network = TypeVar("Network", bound=nn.Module)


class ImageNetResNet(ResNet):
    """torchvision's ResNet with pooled features.

    Args:
        block: What the stages are made of.
        blocks: How many each of the four stages has, at least 1.
        num_classes: Number of classes, at least 1.

    Attributes:
        num_features: Width of the pooled features.
    """

    def __init__(self, block: type[BasicBlock | Bottleneck], blocks: Sequence[int], num_classes: int) -> None:
        check_num_classes(num_classes)
        super().__init__(block, list(blocks), num_classes)
        self.num_features = self.fc.in_features

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
        """Return the logits of normalised images."""
        return self.forward_with_features(x)[0]

    def forward_with_features(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b c"]]:
        """Return the logits and the pooled features that the linear layer reads."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        pooled = self.avgpool(features).flatten(1)
        return self.fc(pooled), pooled


class ImageNetVgg16(VGG):
    """torchvision's VGG-16 without batch norm; its features are the 4096 that the last linear layer reads.

    Args:
        num_classes: Number of classes, at least 1.

    Attributes:
        num_features: 4096.
    """

    num_features = 4096

    def __init__(self, num_classes: int) -> None:
        check_num_classes(num_classes)
        super().__init__(make_layers(cfgs["D"]), num_classes)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
        """Return the logits of normalised images."""
        return self.forward_with_features(x)[0]

    def forward_with_features(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b 4096"]]:
        """Return the logits and the features that the last linear layer reads."""
        pooled = self.avgpool(self.features(images)).flatten(1)
        hidden = self.classifier[:-1](pooled)
        return self.classifier[-1](hidden), hidden


def imagenet_resnet18(num_classes: int = 1000, *, pretrained: bool = False) -> ImageNetResNet:
    """ResNet-18, 11 689 512 parameters at 1000 classes; `pretrained` takes torchvision's default weights."""
    network = ImageNetResNet(BasicBlock, (2, 2, 2, 2), num_classes)
    return _filled(network, ResNet18_Weights.DEFAULT, num_classes) if pretrained else network


def imagenet_resnet34(num_classes: int = 1000, *, pretrained: bool = False) -> ImageNetResNet:
    """ResNet-34, 21 797 672 parameters at 1000 classes; `pretrained` takes torchvision's default weights."""
    network = ImageNetResNet(BasicBlock, (3, 4, 6, 3), num_classes)
    return _filled(network, ResNet34_Weights.DEFAULT, num_classes) if pretrained else network


def imagenet_resnet50(num_classes: int = 1000, *, pretrained: bool = False) -> ImageNetResNet:
    """ResNet-50, 25 557 032 parameters at 1000 classes; `pretrained` takes torchvision's default weights."""
    network = ImageNetResNet(Bottleneck, (3, 4, 6, 3), num_classes)
    return _filled(network, ResNet50_Weights.DEFAULT, num_classes) if pretrained else network


def imagenet_resnet200(num_classes: int = 1000, *, pretrained: bool = False) -> ImageNetResNet:
    """ResNet-200, 64 673 832 parameters at 1000 classes; nobody's weights for it are at hand."""
    if pretrained:
        raise ValueError(
            "expected pretrained=False for imagenet_resnet200, got True: torchvision has no weights for it; train it, "
            "or load a checkpoint of your own (teacher=checkpoint)"
        )
    return ImageNetResNet(Bottleneck, (3, 24, 36, 3), num_classes)


def imagenet_vgg16(num_classes: int = 1000, *, pretrained: bool = False) -> ImageNetVgg16:
    """VGG-16, 138 357 544 parameters at 1000 classes; `pretrained` takes torchvision's default weights."""
    network = ImageNetVgg16(num_classes)
    return _filled(network, VGG16_Weights.DEFAULT, num_classes) if pretrained else network


def _filled(network: Network, weights: WeightsEnum, num_classes: int) -> Network:
    if num_classes != 1000:
        raise ValueError(
            f"expected num_classes = 1000 for torchvision's weights of ImageNet, got {num_classes}: choose "
            "pretrained=False, or data with ImageNet's classes"
        )
    network.load_state_dict(weights.get_state_dict(progress=True, check_hash=True))
    return network
