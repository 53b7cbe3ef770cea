"""Networks: pinned sizes, published key names, fingerprints, and a real checkpoint."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.experiments import networks
from supermix_pl.experiments.networks.classifier import with_features

ROOT = Path(__file__).resolve().parents[3]


class Fingerprint(NamedTuple):
    """What a network must give at 100 classes once `fill` has set its weights; `keys` digests key names and shapes."""

    parameters: int
    keys: str
    logits: list[float]
    logits_norm: float
    pooled_width: int
    pooled_norm: float


# fmt: off
PUBLISHED = {
    "resnet8": Fingerprint(
        83892, "5449ecb61c0b5a22", [-0.04882282546, 0.05701294346, 0.1428021163, 0.1521462927, 0.07046903602],
        1.6325540891463646, 64, 0.38711882828060673,
    ),
    "resnet14": Fingerprint(
        181108, "e206008031b50ba3", [0.03650984123, 0.3850011226, 0.5060909973, 0.3210638876, -0.06177471079],
        4.295448671987572, 64, 1.176820428535493,
    ),
    "resnet20": Fingerprint(
        278324, "6f54e389c35c868d", [0.07074244866, 0.5795922193, 0.7380196863, 0.4437043681, -0.1259560061],
        6.586416026677984, 64, 2.61212794987309,
    ),
    "resnet32": Fingerprint(
        472756, "9a7e2a11fa94d25d", [-0.1623206375, -0.1859722032, -0.07605464867, 0.09577961243, 0.2122275733],
        3.08045641845703, 64, 21.640552285214504,
    ),
    "resnet44": Fingerprint(
        667188, "caefd48710fea9b2", [-4.937028721, -17.70685894, -19.26637892, -8.631819178, 7.46496041],
        202.73450221429715, 64, 310.4519411273687,
    ),
    "resnet56": Fingerprint(
        861620, "470885c26e17ebe6", [-74.14392142, -261.1864922, -283.0904211, -126.0101607, 110.7391517],
        2971.7874067297394, 64, 4220.398302938304,
    ),
    "resnet110": Fingerprint(
        1736564, "7e524b233505177c", [8999527.395, -3151570.638, -13310239.13, -15054146.68, -7280791.311],
        155863998.61973506, 64, 215146176.42990157,
    ),
    "resnet8x4": Fingerprint(
        1233540, "6a4fa0192e114da1", [-0.1661481201, 0.3157509945, -0.1129444539, 0.2084761083, -0.1884319998],
        2.737972935985842, 256, 0.9570980595557739,
    ),
    "resnet32x4": Fingerprint(
        7433860, "250044a29347a41f", [-12.05398006, 14.28780292, -15.9362427, 17.61917884, -18.89622857],
        207.08543349464662, 256, 391.0299479869016,
    ),
    "wrn_16_1": Fingerprint(
        180916, "72def0ef8fdfe20e", [0.1462336059, -0.06373625159, -0.2174148123, -0.2198084762, -0.07807299287],
        3.2619667909257704, 64, 0.8035045841646542,
    ),
    "wrn_16_2": Fingerprint(
        703284, "264bf5a3785965a8", [0.187850685, -0.3547053846, 0.02187067278, 0.4936432477, -0.03268180532],
        4.741994508734592, 128, 1.8392027731456986,
    ),
    "wrn_40_1": Fingerprint(
        569780, "0aa607a5c1b6aa96", [-0.2515823702, 0.2999282575, 0.6778207213, 0.6410283111, 0.2041422367],
        6.54915827723755, 64, 43.383689509565954,
    ),
    "wrn_40_2": Fingerprint(
        2255156, "adf0a10c7eadca8a", [-5.372127939, 24.4064754, 2.384466176, -24.5726168, 0.8415003507],
        246.19189952313224, 128, 750.0935908108978,
    ),
    "vgg8": Fingerprint(
        3965028, "bff82c0f138a715f", [-0.450676385, -0.248898056, -0.03090979194, 0.2149043825, 0.4861908693],
        10.948113916836181, 512, 2.48553565494493,
    ),
    "vgg11": Fingerprint(
        9277284, "64b2552e886822ab", [-0.4588479613, -0.2516500813, -0.02805947935, 0.223167718, 0.499318385],
        11.161522858883353, 512, 2.285298929259239,
    ),
    "vgg13": Fingerprint(
        9462180, "af06ff07f75e9ea5", [-0.4586944761, -0.2515237599, -0.02796871189, 0.2232169028, 0.4993227204],
        11.160024575424815, 512, 2.2879678122891276,
    ),
    "vgg16": Fingerprint(
        14774436, "510623fbedb992c9", [-0.4588907318, -0.2516692183, -0.02805371169, 0.2231980072, 0.499371184],
        11.162488677172707, 512, 2.283461408595993,
    ),
    "vgg19": Fingerprint(
        20086692, "46f8e0c0e44ee534", [-0.9652146191, -0.9080001582, -0.7907988451, -0.595300534, -0.3205168923],
        10.957592106845524, 512, 2.2088870217331347,
    ),
    "ResNet50": Fingerprint(
        23705252, "699fe537c132f68a", [-4.970004808, -4.459081052, 0.3688763509, 4.828128045, 4.59703093],
        53.56271274330138, 2048, 99.4069728133888,
    ),
    "MobileNetV2": Fingerprint(
        812836, "cf2fc083e7ae4429", [0.4796706526, 0.02722655091, -0.8084733778, 1.127941343, -0.9152304773],
        11.135561955564846, 1280, 9.138896044136642,
    ),
    "ShuffleV1": Fingerprint(
        949258, "b19c4d818f21b98f", [-2.117522298, -2.003944957, -1.68138596, -1.201508738, -0.6330701291],
        20.246271190712168, 960, 15.898885872010933,
    ),
    "ShuffleV2": Fingerprint(
        1355528, "8f44a58a43a938d7", [0.5956594857, 1.03457589, 1.219123582, 1.08861941, 0.663063901],
        12.490731810554133, 1024, 2.664845007904442,
    ),
}

# Shake-Shake's from Fast AutoAugment's implementation, ImageNet's from torchvision's; WRN-28-10's is our own
OTHERS = {
    "shake_shake_26_2x96d": Fingerprint(
        26812196, "a676c1604cf56142", [-2.645135194, 0.6047033428, 2.790881875, 0.4514851539, -2.558740879],
        28.076503972166577, 384, 8.501737967716169,
    ),
    "wrn_28_10": Fingerprint(
        36536884, "288038a206e59025", [0.3054755927, -0.7627321018, 0.3926929264, 0.6983920297, -0.7670402061],
        8.688861864894713, 640, 4.248149452683345,
    ),
    "imagenet_resnet18": Fingerprint(
        11227812, "a036b03c066382fc", [-0.2482344846, -0.06565336769, 0.08137660233, 0.1884846584, 0.2701854733],
        6.296242879652368, 512, 20.053343055974274,
    ),
    "imagenet_resnet34": Fingerprint(
        21335972, "a42dd4baef1b794a", [-6.508352779, -9.112904925, -11.15209862, -12.48509779, -13.00173725],
        129.36339085847942, 512, 474.01672914970123,
    ),
    "imagenet_resnet50": Fingerprint(
        23712932, "0133a28b9938b794", [2.540339363, 7.840690805, 5.532310735, -2.136742078, -7.702465101],
        79.55669563787035, 2048, 107.07066671362126,
    ),
    "imagenet_resnet200": Fingerprint(
        62829732, "5edc3df13d52bd0d", [10.39910816, 18.75881623, 8.844976456, -9.665345333, -18.71840359],
        187.39698956945205, 2048, 421.8968506386113,
    ),
    "imagenet_vgg16": Fingerprint(
        134670244, "5d615172e231a532", [-1.020803717, -1.401259525, 2.129717422, -0.7363808245, -1.3663713],
        21.968146969868442, 4096, 133.85654400323028,
    ),
}
# fmt: on

FINGERPRINTS = PUBLISHED | OTHERS
HEAVY = OTHERS.keys() - {"imagenet_resnet18"}
SLOW = HEAVY | {"resnet110", "resnet32x4", "vgg11", "vgg13", "vgg16", "vgg19"}


def described(state: dict[str, torch.Tensor]) -> str:
    lines = "\n".join(f"{key} {list(value.shape)}" for key, value in state.items())
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def fill(key: str, like: torch.Tensor) -> torch.Tensor:
    """The rule of `shared/paper/checkpoint_networks.json`: the weight of an entry from its name and size alone."""
    if not like.is_floating_point():
        return torch.zeros_like(like)
    wave = torch.sin(0.7 * torch.arange(like.numel(), dtype=torch.float64) + len(key)).reshape(like.shape)
    if key.endswith("running_var"):
        return 8 + wave
    if like.ndim >= 2:
        return wave * (2 / (like.numel() / like.shape[0])) ** 0.5
    return 1 + 0.1 * wave if key.endswith("weight") else 0.1 * wave


def built_on_nothing(name: str) -> Any:
    """A network without memory for its weights: the heavy ones take seconds to draw."""
    with torch.device("meta"):
        return getattr(networks, name)(num_classes=100)


def filled(name: str) -> Any:
    network = built_on_nothing(name).double().eval()
    state = {key: fill(key, torch.empty_like(value, device="cpu")) for key, value in network.state_dict().items()}
    network.load_state_dict(state, strict=True, assign=True)
    return network


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_parameter_count_and_key_names_are_those_of_the_published_checkpoints(name: str) -> None:
    network = built_on_nothing(name)
    assert sum(p.numel() for p in network.parameters()) == FINGERPRINTS[name].parameters
    assert described(network.state_dict()) == FINGERPRINTS[name].keys


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in FINGERPRINTS]
)
def test_published_weights_load_strictly_and_the_network_computes_the_fingerprint(name: str) -> None:
    expected = FINGERPRINTS[name]
    network = filled(name)
    images = torch.sin(0.37 * torch.arange(2 * 3 * 32 * 32, dtype=torch.float64)).reshape(2, 3, 32, 32)
    with torch.no_grad():
        logits, pooled = with_features(network, images)
    torch.testing.assert_close(logits[0, :5], torch.tensor(expected.logits, dtype=torch.float64), rtol=1e-6, atol=0)
    assert logits.norm().item() == pytest.approx(expected.logits_norm, rel=1e-6)
    assert pooled.shape == (2, expected.pooled_width)
    assert pooled.norm().item() == pytest.approx(expected.pooled_norm, rel=1e-6)


@pytest.mark.parametrize("name", ["vgg8", "MobileNetV2", "ShuffleV1"])
def test_published_layout_loads_from_a_file(name: str, tmp_path: Path) -> None:
    state = filled(name).float().state_dict()
    torch.save({"epoch": 240, "best_acc": 0.0, "model": state}, tmp_path / "teacher.pth")
    network = load_checkpoint(getattr(networks, name)(num_classes=100), tmp_path / "teacher.pth")
    assert all(value.equal(state[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_here_are_those_of_the_shared_file(name: str, shared: Path) -> None:
    facts = json.loads((shared / "paper" / "checkpoint_networks.json").read_text())["networks"][name]
    keys = "\n".join(f"{key} {shape}" for key, shape in facts["keys"].items())
    digest = hashlib.sha256(keys.encode()).hexdigest()[:16]
    (_, width), norm = facts["pooled"]
    assert FINGERPRINTS[name] == (facts["parameters"], digest, facts["logits"], facts["logits_norm"], width, norm)


def test_every_network_of_the_shared_file_is_here(shared: Path) -> None:
    facts = json.loads((shared / "paper" / "checkpoint_networks.json").read_text())
    assert facts["networks"].keys() == PUBLISHED.keys()


def test_real_teacher_loads_strictly(shared: Path) -> None:
    checkpoint = torch.load(shared / "teachers" / "wrn_16_2_cifar100.pth", weights_only=True)
    networks.wrn_16_2().load_state_dict(checkpoint["model"], strict=True)


def test_another_networks_checkpoint_names_what_differs(tmp_path: Path) -> None:
    torch.save({"model": networks.wrn_16_1().state_dict()}, tmp_path / "teacher.pth")
    expected = (
        "37 missing (block0.0.weight; block0.0.bias; block0.1.weight; and 34 more), "
        "82 unexpected (conv1.weight; block1.layer.0.bn1.weight; block1.layer.0.bn1.bias; and 79 more); look at the "
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        load_checkpoint(networks.vgg8(), tmp_path / "teacher.pth")


def test_one_config_for_each_network() -> None:
    found = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / "network").glob("*.yaml")}
    target = "supermix_pl.experiments.networks"
    expected: dict[str, dict[str, Any]] = {name: {"_target_": f"{target}.{name}"} for name in FINGERPRINTS}
    for name in expected:
        if name.startswith("imagenet"):
            expected[name]["pretrained"] = False
    expected["efficientnet_lite0"] = {"_target_": f"{target}.efficientnet_lite0", "pretrained": False}
    expected["timm"] = {"_target_": f"{target}.timm_network", "name": "???", "pretrained": False, "img_size": None}
    assert found == expected
