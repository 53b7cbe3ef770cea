"""ImageNet's ResNets and VGG-16: torchvision's own, with pooled features, and ResNet-200 from the same blocks."""

from collections.abc import Callable, Sequence

from torch import nn
from torchvision.models import ResNet18_Weights, ResNet34_Weights, ResNet50_Weights, VGG16_Weights, WeightsEnum
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import VGG, cfgs, make_layers

from supermix_pl.experiments.networks.classifier import Images, Logits, LogitsAndFeatures, check_num_classes


class ImageNetResNet(ResNet):
    """torchvision's ResNet with pooled features, of `num_features` channels.

    Args:
        num_classes: Number of classes, at least 1.
        block: What the stages are made of.
        blocks: How many each of the four stages has, at least 1.
    """

    def __init__(self, num_classes: int, *, block: type[BasicBlock | Bottleneck], blocks: Sequence[int]) -> None:
        check_num_classes(num_classes)
        super().__init__(block, list(blocks), num_classes)
        self.num_features = self.fc.in_features

    def forward(self, x: Images) -> Logits:
        """Return the logits of normalised images."""
        return self.forward_with_features(x)[0]

    def forward_with_features(self, images: Images) -> LogitsAndFeatures:
        """Return the logits and the pooled features that the linear layer reads."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        pooled = self.avgpool(features).flatten(1)
        return self.fc(pooled), pooled


class ImageNetVgg16(VGG):
    """torchvision's VGG-16 without batch norm; its features are the 4096 that the last linear layer reads.

    Args:
        num_classes: Number of classes, at least 1.
    """

    num_features = 4096

    def __init__(self, num_classes: int) -> None:
        check_num_classes(num_classes)
        super().__init__(make_layers(cfgs["D"]), num_classes)

    def forward(self, x: Images) -> Logits:
        """Return the logits of normalised images."""
        return self.forward_with_features(x)[0]

    def forward_with_features(self, images: Images) -> LogitsAndFeatures:
        """Return the logits and the features that the last linear layer reads."""
        pooled = self.avgpool(self.features(images)).flatten(1)
        hidden = self.classifier[:-1](pooled)
        return self.classifier[-1](hidden), hidden


def _named(
    name: str, weights: WeightsEnum | None, network: Callable[..., nn.Module] = ImageNetResNet, **settings: object
) -> Callable[..., nn.Module]:
    """Return a function of that name that builds a network; `pretrained` fills in torchvision's weights."""

    def build(num_classes: int = 1000, *, pretrained: bool = False) -> nn.Module:
        if pretrained and weights is None:
            raise ValueError(
                f"expected pretrained=False for {name}, got True: torchvision has no weights for it; train it, or "
                "load a checkpoint of your own (teacher=checkpoint)"
            )
        if pretrained and num_classes != 1000:
            raise ValueError(
                f"expected num_classes = 1000 for torchvision's weights of ImageNet, got {num_classes}: choose "
                "pretrained=False, or data with ImageNet's classes"
            )
        built = network(num_classes, **settings)
        if pretrained and weights is not None:
            built.load_state_dict(weights.get_state_dict(progress=True, check_hash=True))
        return built

    build.__name__ = build.__qualname__ = name
    return build


# Parameters at 1000 classes: 11 689 512, 21 797 672, 25 557 032, 64 673 832, 138 357 544
imagenet_resnet18 = _named("imagenet_resnet18", ResNet18_Weights.DEFAULT, block=BasicBlock, blocks=(2, 2, 2, 2))
imagenet_resnet34 = _named("imagenet_resnet34", ResNet34_Weights.DEFAULT, block=BasicBlock, blocks=(3, 4, 6, 3))
imagenet_resnet50 = _named("imagenet_resnet50", ResNet50_Weights.DEFAULT, block=Bottleneck, blocks=(3, 4, 6, 3))
imagenet_resnet200 = _named("imagenet_resnet200", None, block=Bottleneck, blocks=(3, 24, 36, 3))
imagenet_vgg16 = _named("imagenet_vgg16", VGG16_Weights.DEFAULT, ImageNetVgg16)
