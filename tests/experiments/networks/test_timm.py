"""Networks of timm: features, weights, and what is said where timm is missing."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from supermix_pl import FrozenTeacher
from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.experiments.networks import timm_network
from supermix_pl.experiments.networks.classifier import with_features

timm = pytest.importorskip("timm")


def built(name: str = "test_resnet", **arguments: Any) -> Any:
    torch.manual_seed(0)
    return timm_network(name, num_classes=7, **arguments)


@pytest.mark.parametrize(("name", "side"), [("test_resnet", 32), ("test_vit", 160), ("test_convnext", 64)])
def test_logits_and_features(name: str, side: int) -> None:
    network, images = built(name), torch.rand(3, 3, side, side)
    logits, features = with_features(network.eval(), images)
    torch.testing.assert_close(network(images), logits)
    assert (logits.shape, features.shape) == ((3, 7), (3, network.head_hidden_size))
    torch.testing.assert_close(network.get_classifier()(features), logits)
    logits, features = with_features(network.train(), images)
    (logits.sum() + features.sum()).backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vgg11"])
def test_features_have_the_width_of_the_hidden_head(name: str) -> None:
    with torch.device("meta"):
        network = timm_network(name, num_classes=7).eval()
        logits, features = with_features(network, torch.zeros(2, 3, 224, 224))
    assert (logits.shape, features.shape) == ((2, 7), (2, network.head_hidden_size))


@pytest.mark.parametrize("size", [64, (32, 48)])
def test_a_size_of_images(size: int | tuple[int, int]) -> None:
    sides = (size, size) if isinstance(size, int) else size
    network = built("test_vit", img_size=size)
    assert network.patch_embed.img_size == sides
    assert network(torch.rand(2, 3, *sides)).shape == (2, 7)


def test_a_size_from_a_config() -> None:
    config = OmegaConf.create({"_target_": "supermix_pl.experiments.networks.timm_network", "name": "test_vit"})
    network = instantiate(config, img_size=[32, 48], num_classes=7)
    assert network.patch_embed.img_size == (32, 48)


@pytest.mark.parametrize("copied", [False, True])
def test_weights_of_timm_load_strictly(copied: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    reference = timm.create_model("test_resnet", num_classes=7).eval()
    torch.save({"state_dict": reference.state_dict(), "epoch": 3}, tmp_path / "model_best.pth.tar")
    network = copy.deepcopy(built()) if copied else built()
    images = torch.rand(2, 3, 32, 32)
    assert not torch.equal(network.eval()(images), reference(images))
    load_checkpoint(network, tmp_path / "model_best.pth.tar")
    assert torch.equal(network.eval()(images), reference(images))


def test_as_a_teacher() -> None:
    teacher = FrozenTeacher(built(), image_size=32)
    assert teacher(torch.rand(2, 3, 16, 16)).shape == (2, 7)


def test_arguments_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = timm.create_model("test_resnet", num_classes=7)
    asked: dict[str, Any] = {}

    def create_model(name: str, **arguments: Any) -> nn.Module:
        asked.update(arguments, name=name)
        return reference

    monkeypatch.setattr(timm, "create_model", create_model)
    built(pretrained=True)
    assert asked == {"name": "test_resnet", "num_classes": 7, "pretrained": True, "img_size": None}


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r'expected timm .* test_resnet.*pip install "supermix_pl\[timm\]"'):
        built()
