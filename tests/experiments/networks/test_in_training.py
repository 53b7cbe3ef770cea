"""All networks alike: features beside logits, gradients everywhere, first weights, training and eval mode."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supermix_pl.experiments import networks
from supermix_pl.experiments.networks.classifier import last_linear, with_features
from tests.experiments.networks.test_networks import FINGERPRINTS, HEAVY, built_on_nothing

# What is light enough to compute with, at a few classes and small images; the quick ones are one of each family
SMALL: dict[str, Callable[..., Any]] = {name: getattr(networks, name) for name in FINGERPRINTS if name not in HEAVY} | {
    "wrn_10_3": lambda num_classes: networks.WideResNet(depth=10, width=3, num_classes=num_classes),
    "shake_shake_14_2x4d": lambda num_classes: networks.ShakeResNet(depth=14, width=4, num_classes=num_classes),
}
QUICK = ("resnet8", "wrn_10_3", "vgg8", "ResNet50", "MobileNetV2", "ShuffleV1", "ShuffleV2", "shake_shake_14_2x4d")


def images(count: int = 4, side: int = 16) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in SMALL]
)
def fresh(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return SMALL[request.param](num_classes=7)


@pytest.fixture
def network(fresh: Any) -> Any:
    return copy.deepcopy(fresh)


def test_logits_and_features_in_eval_mode(network: Any) -> None:
    network.eval()
    with torch.no_grad():
        logits, features = with_features(network, images(2, side=24))
        assert torch.equal(network(images(2, side=24)), logits)
        alone = network(images(2, side=24)[1:])
    assert (logits.shape, features.shape) == ((2, 7), (2, last_linear(network).in_features))
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    torch.testing.assert_close(last(features), logits)
    torch.testing.assert_close(alone, logits[1:], rtol=1e-3, atol=1e-3)


class Unused(nn.Linear):
    """Passes its input on."""

    def __call__(self, value: Tensor) -> Tensor:
        return value


@pytest.mark.parametrize(
    ("layer", "came"), [(nn.Linear(7, 5), "one of 5 outputs that gives others"), (Unused(7, 7), "that is not called")]
)
def test_features_where_the_last_linear_layer_gives_no_logits(layer: nn.Linear, came: str) -> None:
    head = nn.Conv2d(layer.out_features, 7, 1)
    network = nn.Sequential(nn.Conv2d(3, 7, 16), nn.Flatten(), layer, nn.Unflatten(1, (-1, 1, 1)), head, nn.Flatten())
    with pytest.raises(TypeError, match=f"expected the last linear layer of Sequential to give its 7 logits, .*{came}"):
        with_features(network, images())


def test_rectangular_images(network: Any) -> None:
    logits, features = with_features(network.eval(), torch.zeros(3, 3, 24, 40))
    assert (logits.shape, features.shape) == ((3, 7), (3, last_linear(network).in_features))
    assert logits.isfinite().all()


def test_first_step_of_training(network: Any) -> None:
    batch = images().requires_grad_()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loss = F.cross_entropy(network.train()(batch), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert loss < 15  # of logits whose scale the first weights keep in bounds
    assert batch.grad is not None
    assert (batch.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
    for name, weight in network.named_parameters():
        if weight.requires_grad:
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name
            assert weight.ndim < 2 or (weight.grad != 0).any(), name
    used = {name.rpartition(".")[0] for name, weight in network.named_parameters() if weight.requires_grad}
    for name, value in network.state_dict().items():
        if name.endswith("running_mean") and name.rpartition(".")[0] in used:
            assert not value.equal(before[name]), name


def test_only_shake_shake_has_frozen_weights(network: Any) -> None:
    frozen = sum(not weight.requires_grad for weight in network.parameters())
    assert bool(frozen) == isinstance(network, networks.ShakeResNet)


def test_first_weights(network: Any) -> None:
    default = isinstance(network, networks.ShuffleV1 | networks.ShuffleV2)
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all(), name
            assert (module.bias == 0).all(), name
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000 and not default:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1), name
            assert module.bias is None or (module.bias == 0).all(), name


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "imagenet_resnet200")) for name in sorted(HEAVY)]
)
def test_heavy_networks_give_shapes_and_gradients(name: str) -> None:
    network = built_on_nothing(name).train()
    logits, features = with_features(network, torch.zeros(2, 3, 32, 32, device="meta"))
    assert (logits.shape, features.shape) == ((2, 100), (2, last_linear(network).in_features))
    logits.sum().backward()
    assert all((weight.grad is not None) == weight.requires_grad for weight in network.parameters())
