"""Networks of the paper's experiments, built by name: `resnet20(num_classes=100)`.

All give the logits of images, by a last linear layer. The state dicts of those for small images have the key names of
the checkpoints that the literature publishes.
"""

from supermix_pl.experiments.networks.imagenet import (
    efficientnet_lite0,
    imagenet_resnet18,
    imagenet_resnet34,
    imagenet_resnet50,
    imagenet_resnet200,
    imagenet_vgg16,
    timm_network,
)
from supermix_pl.experiments.networks.mobile import MobileNetV2, ShuffleV1, ShuffleV2
from supermix_pl.experiments.networks.resnet import (
    ResNet50,
    resnet8,
    resnet8x4,
    resnet14,
    resnet20,
    resnet32,
    resnet32x4,
    resnet44,
    resnet56,
    resnet110,
)
from supermix_pl.experiments.networks.shake_shake import ShakeResNet, shake_shake_26_2x96d
from supermix_pl.experiments.networks.vgg import vgg8, vgg11, vgg13, vgg16, vgg19
from supermix_pl.experiments.networks.wide_resnet import WideResNet, wrn_16_1, wrn_16_2, wrn_28_10, wrn_40_1, wrn_40_2
