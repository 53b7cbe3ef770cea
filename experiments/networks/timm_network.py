"""Any network of timm, where timm is installed."""

from collections.abc import Sequence

from torch import nn

from supermix_pl.teacher.published import of_timm


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
