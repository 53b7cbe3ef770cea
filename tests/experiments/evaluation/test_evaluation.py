"""Calibration, FGSM and corruptions of trained networks, and the command that measures them."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import interpolate

from supermix_pl.experiments import evaluate
from supermix_pl.experiments.data import Shapes
from supermix_pl.experiments.data.pixels import Normalisation
from supermix_pl.experiments.evaluation import (
    CORRUPTIONS,
    SEVERITIES,
    Robustness,
    corrupt,
    fgsm,
    quality,
    scores,
)
from supermix_pl.experiments.networks import resnet8
from supermix_pl.experiments.shared.runs import folders
from tests.experiments.report.report_folders import write_run

PLAIN = Normalisation((0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
SMALL = Robustness(corrupted_per_class=1)


class Brightness(nn.Module):
    """Two classes by the mean of the first channel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(5.0))

    def forward(self, images: Tensor) -> Tensor:
        score = self.scale * images[:, 0].mean(dim=(1, 2))
        return torch.stack([-score, score], dim=1)


def photographs(count: int = 3) -> Tensor:
    """Smooth pictures with some detail, not too dark or bright."""
    chance = torch.Generator().manual_seed(0)
    coarse, fine = (torch.rand(1, 3, side, side, generator=chance) for side in (4, 13))
    coarse, fine = (interpolate(each, (32, 32), mode="bilinear") for each in (coarse, fine))
    return (60 + 90 * coarse + 40 * fine).to(torch.uint8).repeat(count, 1, 1, 1)


def calibration_error(logits: Tensor, labels: Tensor, **bins: int) -> float:
    return scores(logits, labels, **bins)["calibration_error"]


def test_calibration_error_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]])
    labels = torch.tensor([0, 1, 1, 1])
    assert calibration_error(probabilities.log(), labels, bins=10) == pytest.approx((0.4 + 0.3) / 2, abs=1e-6)


def test_a_certain_and_right_network_is_calibrated() -> None:
    logits = 100 * torch.eye(4)
    assert calibration_error(logits, torch.arange(4)) == pytest.approx(0.0, abs=1e-6)
    assert calibration_error(logits, (torch.arange(4) + 1) % 4) == pytest.approx(1.0)


def test_quality_of_a_network_by_hand() -> None:
    data = Shapes(train_size=10, test_size=23, eval_batch_size=10)
    data.setup()
    network = resnet8(10)
    found = quality(network, data)
    assert not network.training
    images, labels = (torch.cat(part) for part in zip(*data.test_dataloader(), strict=True))
    with torch.no_grad():
        probabilities = network(images).softmax(dim=1)
    assert found["accuracy"] == pytest.approx(float((probabilities.argmax(dim=1) == labels).float().mean()))
    assert found["nll"] == pytest.approx(float(-probabilities[torch.arange(23), labels].log().mean()), rel=1e-4)
    assert found["calibration_error"] == pytest.approx(calibration_error(probabilities.log(), labels), abs=1e-6)


def test_fgsm_goes_against_the_labels_by_epsilon() -> None:
    network = Brightness()
    images = PLAIN.normalise(photographs(2))
    labels = torch.tensor([0, 1])

    attacked = fgsm(network, images, labels, epsilon=0.1, normalisation=PLAIN)

    moved = 255 * 0.1 * torch.tensor([1.0, -1.0])  # class 0 is the darker one
    shown = attacked * torch.tensor(PLAIN.std)[:, None, None] + torch.tensor(PLAIN.mean)[:, None, None]
    expected = photographs(2).float()
    expected[:, 0] += moved[:, None, None]
    assert torch.allclose(255 * shown, expected.clamp(0, 255), atol=1e-3)
    assert network.scale.grad is None
    assert not attacked.requires_grad


def test_fgsm_stays_within_the_pixels_range() -> None:
    images = PLAIN.normalise(torch.full((1, 3, 4, 4), 254, dtype=torch.uint8))
    attacked = fgsm(Brightness(), images, torch.tensor([0]), epsilon=0.5, normalisation=PLAIN)
    assert PLAIN.pixels(attacked)[:, 0].unique().tolist() == [255]
    assert torch.allclose(attacked[:, 0], torch.tensor((1 - 0.5) / 0.2))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_severity_changes_more(name: str) -> None:
    pixels = photographs()
    changes = []
    for severity in range(1, len(SEVERITIES[name]) + 1):
        changed = corrupt(pixels, name, severity, seed=0)
        assert changed.shape == pixels.shape
        assert changed.dtype == torch.uint8
        changes.append(float((changed.float() - pixels.float()).abs().mean()))
    assert 0 < changes[0] < changes[1] < changes[2] < 80
    assert pixels.equal(photographs())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_a_function_of_its_seed(name: str) -> None:
    first, again, other = (corrupt(photographs(), name, 2, seed=seed) for seed in (1, 1, 2))
    assert first.equal(again)
    assert first.equal(other) == ("noise" not in name)


def test_the_strengths_are_what_they_say() -> None:
    grey = torch.full((4, 3, 64, 64), 128, dtype=torch.uint8)
    noise = corrupt(grey, "gaussian_noise", 1, seed=0).float().std()
    assert float(noise) == pytest.approx(255 * 0.04, rel=0.03)
    shot = corrupt(grey, "shot_noise", 2, seed=0).float().std()
    assert float(shot) == pytest.approx(255 * (128 / 255 / 100) ** 0.5, rel=0.03)
    hit = (corrupt(grey, "impulse_noise", 3, seed=0) != 128).float().mean()
    assert float(hit) == pytest.approx(0.06, rel=0.1)
    assert corrupt(grey, "brightness", 1, seed=0).unique().tolist() == [154]


@pytest.mark.parametrize(
    ("name", "value"), [("epsilon", -0.1), ("epsilon", float("nan")), ("corrupted_per_class", 0), ("seed", -1)]
)
def test_robustness_checks_its_ranges(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"expected {name} (to be an integer )?>= "):
        Robustness(**{name: value})  # pyright: ignore[reportArgumentType]


def test_measuring_a_network() -> None:
    data = Shapes(train_size=20, test_size=60, eval_batch_size=6)
    data.setup("test")
    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, data.num_classes))

    measured = SMALL.measure(network, data)

    assert measured == SMALL.measure(network, data)
    assert (measured["images"], measured["corrupted_images"]) == (60, data.num_classes)
    levels = {name: value for name, value in measured.items() if name.startswith("corrupted/")}
    assert len(levels) == sum(map(len, SEVERITIES.values()))
    assert measured["corrupted_accuracy"] == pytest.approx(sum(levels.values()) / len(levels))
    assert all(0 <= measured[name] <= 1 for name in (*levels, "accuracy", "calibration_error", "fgsm_accuracy"))
    unmoved = Robustness(epsilon=0.0, corrupted_per_class=1).measure(network, data)
    assert unmoved["fgsm_accuracy"] == measured["accuracy"]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run", method="plain", pair=None, network_name="resnet8", taught_by="resnet8")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"] = {"_target_": "supermix_pl.experiments.data.Shapes", "train_size": 20, "test_size": 60, "seed": 3}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save({"epoch": 1, "best_acc": 1.0, "model": resnet8(10).state_dict()}, folder / "weights.pth")
    return folder


def test_the_command_measures_a_run_once(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(finished.parent), "--corrupted-per-class", "1"]
    evaluate.main(command)
    path = finished / "evaluation.json"
    assert capsys.readouterr().out == f"{path}\n"
    first = path.stat().st_mtime_ns
    assert json.loads(path.read_text())["settings"]["epsilon"] == 2 / 255

    evaluate.main(command)
    assert path.stat().st_mtime_ns == first
    evaluate.main([*command, "--epsilon", "0.1"])
    assert json.loads(path.read_text())["settings"]["epsilon"] == 0.1


def test_a_run_that_was_trained_again_is_measured_again(finished: Path) -> None:
    command = [str(finished.parent), "--corrupted-per-class", "1"]
    evaluate.main(command)
    first = folders.read_evaluation(finished)
    assert first is not None
    metrics = finished / "metrics.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"fit_seconds": 7.0}))
    assert folders.read_evaluation(finished) is None
    evaluate.main(command)
    second = folders.read_evaluation(finished)
    assert second is not None
    assert second["training"] != first["training"]


def test_a_run_without_weights_is_an_error(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished / "weights.pth").unlink()
    with pytest.raises(SystemExit):
        evaluate.main([str(finished)])
    assert "weights.pth, which supermix-train writes, found no such file" in capsys.readouterr().err
