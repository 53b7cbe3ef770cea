"""Networks: pinned sizes, published key names, fingerprints, and a real checkpoint."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

from supermix_pl.experiments import networks

ROOT = Path(__file__).resolve().parents[2]


class Fingerprint(NamedTuple):
    """What a network must give at 100 classes once `fill` has set its weights; `keys` digests key names and shapes."""

    parameters: int
    keys: str
    logits: list[float]
    logits_norm: float
    pooled_width: int
    pooled_norm: float


# fmt: off
FINGERPRINTS = {
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
}
# fmt: on


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


@pytest.fixture(params=FINGERPRINTS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_parameter_count_and_key_names_are_those_of_the_published_checkpoints(name: str) -> None:
    network = getattr(networks, name)()
    assert sum(p.numel() for p in network.parameters()) == FINGERPRINTS[name].parameters
    assert described(network.state_dict()) == FINGERPRINTS[name].keys


def test_published_layout_loads_and_the_network_computes_the_fingerprint(name: str, tmp_path: Path) -> None:
    expected = FINGERPRINTS[name]
    network = getattr(networks, name)().double().eval()
    state = {key: fill(key, value) for key, value in network.state_dict().items()}
    torch.save({"epoch": 240, "best_acc": 0.0, "model": state}, tmp_path / "teacher.pth")
    network.load_state_dict(torch.load(tmp_path / "teacher.pth", weights_only=True)["model"], strict=True)

    images = torch.sin(0.37 * torch.arange(2 * 3 * 32 * 32, dtype=torch.float64)).reshape(2, 3, 32, 32)
    with torch.no_grad():
        logits, pooled = network.forward_with_features(images)
        assert torch.equal(network(images), logits)
    torch.testing.assert_close(logits[0, :5], torch.tensor(expected.logits, dtype=torch.float64), rtol=1e-6, atol=0)
    assert logits.norm().item() == pytest.approx(expected.logits_norm, rel=1e-6)
    assert pooled.shape == (2, expected.pooled_width)
    assert pooled.norm().item() == pytest.approx(expected.pooled_norm, rel=1e-6)


def test_numbers_here_are_those_of_the_shared_file(name: str, shared: Path) -> None:
    facts = json.loads((shared / "paper" / "checkpoint_networks.json").read_text())["networks"][name]
    keys = "\n".join(f"{key} {shape}" for key, shape in facts["keys"].items())
    digest = hashlib.sha256(keys.encode()).hexdigest()[:16]
    (_, width), norm = facts["pooled"]
    assert FINGERPRINTS[name] == (facts["parameters"], digest, facts["logits"], facts["logits_norm"], width, norm)


def test_real_teacher_loads_strictly(shared: Path) -> None:
    checkpoint = torch.load(shared / "teachers" / "wrn_16_2_cifar100.pth", weights_only=True)
    networks.wrn_16_2().load_state_dict(checkpoint["model"], strict=True)


@pytest.mark.parametrize("build", [networks.resnet8, networks.wrn_16_1])
def test_other_classes_and_rectangular_images(build) -> None:
    logits, pooled = build(num_classes=7).forward_with_features(torch.zeros(3, 3, 24, 40))
    assert (logits.shape, pooled.shape) == ((3, 7), (3, 64))
    assert logits.isfinite().all()


@pytest.mark.parametrize("build", [networks.resnet8, networks.wrn_16_1])
def test_no_classes_is_refused(build) -> None:
    with pytest.raises(ValueError, match="expected num_classes >= 1, got 0"):
        build(num_classes=0)


@pytest.mark.parametrize("depth", [4, 17])
def test_depth_that_gives_no_whole_blocks_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=f"expected depth = 6 n \\+ 4 .*got {depth}"):
        networks.WideResNet(depth=depth, width=1, num_classes=10)


def test_one_config_for_each_network() -> None:
    found = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / "network").glob("*.yaml")}
    assert found == {name: {"_target_": f"supermix_pl.experiments.networks.{name}"} for name in FINGERPRINTS}
