"""Any network of timm, where timm is installed."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from supermix_pl.experiments.networks.classifier import Classifier, Images, Logits, LogitsAndFeatures, check_num_classes
from supermix_pl.teacher.published import of_timm


class TimmNetwork(Classifier):
    """A network of timm behind the package's interface; its state dict has timm's own key names.

    Args:
        name: As `timm.create_model` takes it: "resnet18", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", "hf_hub:...".
        num_classes: Number of classes, at least 1; pretrained weights of another number get a new last layer.
        pretrained: Whether timm fetches its weights.
        img_size: Side, or (height, width), in pixels, for networks that are built for one size (ViT and its kin); None
            for timm's own.

    Raises:
        ModuleNotFoundError: If timm is not installed.
    """

    def __init__(
        self,
        name: str,
        num_classes: int = 1000,
        *,
        pretrained: bool = False,
        img_size: int | Sequence[int] | None = None,
    ) -> None:
        check_num_classes(num_classes)
        size = img_size if img_size is None or isinstance(img_size, int) else tuple(img_size)
        model: Any = of_timm(name, pretrained, num_classes=num_classes, img_size=size)[0]
        super().__init__(num_features=model.head_hidden_size, num_classes=num_classes)
        self.model = model
        self.register_load_state_dict_pre_hook(_put_under_model)

    def forward(self, images: Images) -> Logits:
        return self.model(images)

    def forward_with_features(self, images: Images) -> LogitsAndFeatures:
        """Return the logits and the pooled features that the last layer reads (timm's `pre_logits`)."""
        features = self.model.forward_features(images)
        return self.model.forward_head(features), self.model.forward_head(features, pre_logits=True)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the weights under timm's names, so that files of timm and of this class are alike."""
        return self.model.state_dict(*args, **kwargs)


def _put_under_model(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Put before timm's names the start under which torch looks for them."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        state_dict[f"{prefix}model.{key.removeprefix(prefix)}"] = state_dict.pop(key)
