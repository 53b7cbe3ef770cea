"""ImageNet's networks: torchvision's own, weights included."""

from typing import Any

import pytest
import torch
import torchvision
from torchvision.models import WeightsEnum

from supermix_pl.experiments import networks

SIZES = {
    "imagenet_resnet18": 11_689_512,
    "imagenet_resnet34": 21_797_672,
    "imagenet_resnet50": 25_557_032,
    "imagenet_resnet200": 64_673_832,
    "imagenet_vgg16": 138_357_544,
}
IN_TORCHVISION = sorted(SIZES.keys() - {"imagenet_resnet200"})


def theirs(name: str) -> Any:
    return getattr(torchvision.models, name.removeprefix("imagenet_"))()


@pytest.mark.parametrize("name", SIZES)
def test_parameters_at_1000_classes(name: str) -> None:
    with torch.device("meta"):
        network = getattr(networks, name)()
    assert sum(weight.numel() for weight in network.parameters()) == SIZES[name]


@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_state_dicts_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        expected, got = theirs(name).state_dict(), getattr(networks, name)().state_dict()
    assert [(key, value.shape) for key, value in got.items()] == [(key, value.shape) for key, value in expected.items()]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "imagenet_resnet18")) for name in IN_TORCHVISION]
)
def test_default_weights_are_taken_and_the_logits_are_torchvisions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    reference = theirs(name).eval()
    asked = []

    def weights(self: WeightsEnum, **options: Any) -> dict[str, torch.Tensor]:
        asked.append((self, options))
        return reference.state_dict()

    monkeypatch.setattr(WeightsEnum, "get_state_dict", weights)
    network = getattr(networks, name)(pretrained=True).eval()
    images = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(network(images), reference(images))
    weights_of_name: Any = torchvision.models.get_model_weights(name.removeprefix("imagenet_"))
    assert asked == [(weights_of_name.DEFAULT, {"progress": True, "check_hash": True})]


@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_weights_for_other_classes_are_refused(name: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="expected value 1000 but got 100"):
        getattr(networks, name)(100, pretrained=True)


def test_there_are_no_weights_of_resnet200() -> None:
    with pytest.raises(
        ValueError, match=r"expected pretrained=False for imagenet_resnet200, got True: .* load a check"
    ):
        networks.imagenet_resnet200(pretrained=True)
