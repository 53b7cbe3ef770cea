"""Sums that the configs ask for."""

import pytest
import torch
from omegaconf import OmegaConf

from supermix_pl.experiments import resolvers


@pytest.mark.parametrize(("whole", "share", "expected"), [(240, 0.5, 120), (240, 1.0, 240), (30, 0.0, 1), (5, 0.3, 2)])
def test_epochs(whole: float, share: float, expected: int) -> None:
    assert resolvers.epochs(whole, share) == expected


@pytest.mark.parametrize(
    ("wanted", "total", "expected"),
    [(5, 240, 5), (5, 12, 4), (5, 7, 1), (10, 3, 3), (1, 8, 1), (8, 8, 8), (5, 0, 5), (5, -1, 5)],
)
def test_the_last_epoch_is_validated(wanted: int, total: int, expected: int) -> None:
    assert resolvers.validation_period(wanted, total) == expected


def test_a_training_without_a_limit_is_validated_as_wanted() -> None:
    assert resolvers.validation_period(5, None) == 5


def test_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match=r"expected scale.epochs >= 0, a share of the protocol's 240 epochs, got -1"):
        resolvers.epochs(240, -1)
    with pytest.raises(ValueError, match=r"expected validate_every >= 1, .* got 0"):
        resolvers.validation_period(0, 8)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("supermix_pl.experiments.networks.MobileNetV2", 0.02),
        ("supermix_pl.experiments.networks.ShuffleV1", 0.02),
        ("ShuffleV2", 0.02),
        ("supermix_pl.experiments.networks.wrn_16_2", 0.1),
    ],
)
def test_mobile_networks_learn_at_a_fifth_of_the_rate(network: str, expected: float) -> None:
    assert resolvers.learning_rate(0.1, network) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("accelerator", "gpu", "bfloat16", "amx", "expected"),
    [
        ("cpu", False, False, False, "32-true"),
        ("cpu", False, True, False, "bf16-mixed"),
        ("cpu", False, False, True, "bf16-mixed"),
        ("cpu", True, False, False, "32-true"),
        ("auto", True, False, False, "bf16-mixed"),
        ("auto", False, False, False, "32-true"),
    ],
)
def test_precision_is_what_the_hardware_has(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, gpu: bool, bfloat16: bool, amx: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bfloat16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolvers.precision(accelerator) == expected


def test_configs_may_ask_for_them() -> None:
    resolvers.register()
    resolvers.register()  # once an entry point that is imported
    config = OmegaConf.create({"a": "${epochs:240,0.5}", "b": "${validation_period:5,${a}}"})
    assert (config.a, config.b) == (120, 5)
