"""`supermix-train` end to end: one batch of every kind, what a run leaves behind, sweeps."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import nn

from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.experiments import building
from supermix_pl.experiments.building import build_mixing
from supermix_pl.experiments.checks import SettingsError
from supermix_pl.experiments.data import ImageFolder, Shapes
from supermix_pl.experiments.networks import resnet8
from supermix_pl.experiments.teachers import fit_teacher
from supermix_pl.experiments.train import train
from tests.composing import compose

SMALL = [
    "network=resnet8",
    "data.train_size=40",
    "data.test_size=20",
    "data.batch_size=10",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
    "callbacks=none",
    "logger=none",
]


@pytest.fixture(scope="module")
def teacher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "resnet8.pth"
    torch.save({"epoch": 1, "best_acc": 10.0, "model": resnet8(10).state_dict()}, path)
    return path


def composed(folder: Path, *overrides: str) -> DictConfig:
    return compose("train", [*SMALL, f"paths.root_dir={folder}", f"paths.output_dir={folder}", *overrides])


def with_teacher(path: Path) -> list[str]:
    return ["teacher=checkpoint", f"teacher.checkpoint={path}", "network@teacher.network=resnet8"]


@torch.no_grad()
def fidelity(student: nn.Module, teacher: nn.Module) -> list[float]:
    """The student's agreement with the teacher on the test images, and the mean KL to it."""
    data = Shapes(train_size=40, test_size=20)
    data.setup("test")
    images = torch.cat([images for images, *_ in data.test_dataloader()])
    ours, theirs = (network.eval()(images).log_softmax(dim=1) for network in (student, teacher))
    agreed = (ours.argmax(dim=1) == theirs.argmax(dim=1)).float().mean()
    return [float(agreed), float((theirs.exp() * (theirs - ours)).sum(dim=1).mean())]


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(["mixer=none"], id="plain"),
        pytest.param(["mixer=supermix", "mixer.max_steps=2"], id="supermix"),
        pytest.param(["mixer=cutmix", "mixing.mode=replace", "mixing.targets=soft"], id="cutmix-replace"),
        pytest.param(["mixer=fmix", "mixing.target_key=null", "mixing.targets=soft"], id="unlabelled"),
        pytest.param(["mixer=mixup", "mixing.targets=pairs"], id="mixup-pairs", marks=pytest.mark.slow),
        pytest.param(["task=distillation", "mixer=supermix", "mixer.max_steps=2"], id="distillation"),
        pytest.param(["method=kd_all_supermix", "task.loss=dkd"], id="dkd"),
        pytest.param(["method=kd_all_supermix", "task.loss=dist"], id="dist", marks=pytest.mark.slow),
        pytest.param(
            ["method=kd_all_supermix", "task.features=layer2", "teacher.features=layer3", "task.loss=dist"],
            id="features",
        ),
        pytest.param(["task=distillation", "mixer=none"], id="distillation-plain", marks=pytest.mark.slow),
        pytest.param(["optimizer=adamw", "scheduler=multistep", "augment=none"], id="adamw", marks=pytest.mark.slow),
        pytest.param(["callbacks=default", "logger=both"], id="loggers", marks=pytest.mark.slow),
    ],
)
def test_a_run_leaves_config_metrics_and_weights(tmp_path: Path, teacher_path: Path, overrides: list[str]) -> None:
    config = composed(tmp_path, *with_teacher(teacher_path), *overrides)
    metrics = train(config)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert 0 <= metrics["test/accuracy"] <= 1
    assert metrics["steps"] == 2
    assert metrics["parameters"] == 78_042
    mixed = "mixer=none" not in overrides and any(each.startswith(("mixer=", "method=")) for each in overrides)
    assert metrics.get("supermix/mixes", 0) == (20 if mixed else 0)
    kept = OmegaConf.load(tmp_path / "config.yaml")
    assert kept.mixing.seed == 0  # resolved
    student = load_checkpoint(resnet8(10), tmp_path / "weights.pth")
    followed = [metrics.get(f"test/teacher_{name}") for name in ("agreement", "kl")]
    if mixed or "task=distillation" in overrides:
        teacher = load_checkpoint(resnet8(10), teacher_path)
        assert followed == pytest.approx(fidelity(student, teacher), rel=1e-3)
    else:
        assert followed == [None, None]


@pytest.mark.parametrize("lr", [0.1, 1e30])
def test_a_training_that_diverged_says_so(tmp_path: Path, lr: float, caplog: pytest.LogCaptureFixture) -> None:
    assert train(composed(tmp_path, "mixer=none", f"optimizer.lr={lr}"))["diverged"] == (lr > 1)
    assert ("weights are not finite; lower optimizer.lr, now 1e+30" in caplog.text) == (lr > 1)


def test_a_run_under_several_teachers(tmp_path: Path, teacher_path: Path) -> None:
    several = ["teacher=mean"]
    for name in ("first", "second"):
        several += [f"teacher@teacher.teachers.{name}=checkpoint", f"teacher.teachers.{name}.checkpoint={teacher_path}"]
        several += [f"network@teacher.teachers.{name}.network=resnet8"]
    metrics = train(composed(tmp_path, *several, "method=kd_all_supermix"))
    student, teacher = (load_checkpoint(resnet8(10), path) for path in (tmp_path / "weights.pth", teacher_path))
    followed = [metrics[f"test/teacher_{name}"] for name in ("agreement", "kl")]
    assert followed == pytest.approx(fidelity(student, teacher), rel=1e-3)
    assert metrics["supermix/mixes"] == 20


def test_distillation_needs_a_teacher(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a teacher for .*Distillation, got teacher=none"):
        train(composed(tmp_path, "task=distillation"))


def test_a_missing_value_ends_the_run_before_time_is_spent(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected values for data\.folder"):
        train(compose("train", ["data=parquet", f"paths.root_dir={tmp_path}", f"paths.output_dir={tmp_path}"]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.max_epochs=-3", r"`max_epochs` must be a non-negative integer or -1"),
        ("trainer.limit_val_batches=-1", r"limit_val_batches"),
        ("logger.csv._target_=tests.experiments.test_train.absent_logger", "pip install it"),
        ("data.images_per_class=100000", r"expected at least 100000 training images of class 0"),
        ("ckpt_path=absent.ckpt", r"expected a checkpoint in ckpt_path, got no such file as absent\.ckpt"),
        ("network=timm network.name=resnet81", r"expected the name of a network of timm, such as resnet.*, got"),
    ],
)
def test_what_cannot_be_trained_is_said_before_a_teacher_is_fitted(
    override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "build_teacher", lambda *_: pytest.fail("a teacher is built"))
    with pytest.raises(SettingsError, match=message):
        train(composed(tmp_path, "logger=csv", *override.split()))


def test_weights_of_another_network_are_an_error_of_settings(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(SettingsError, match="expected the weights of this network"):
        train(composed(tmp_path, "mixer=mixup", *with_teacher(tmp_path / "other.pth")))


def absent_logger(**kwargs: str) -> None:
    raise ModuleNotFoundError("pip install it")


def test_a_folder_of_mixes_without_a_name_ends_a_run_before_a_teacher_is_fitted(tmp_path: Path) -> None:
    paths = [f"paths.root_dir={tmp_path}", f"paths.cache_dir={tmp_path}", f"paths.output_dir={tmp_path}"]
    config = compose("train", ["experiment=quickstart", "mixes=folder", *paths])
    with pytest.raises(
        ValueError, match=r"expected values for mixes\.folder, got none; give them, for instance mixes\.folder=\.\.\."
    ):
        train(config)
    assert not list(tmp_path.iterdir())


def test_a_blind_mixer_learns_the_classes_from_the_data(tmp_path: Path) -> None:
    config = composed(tmp_path, "mixer=mixup", "mixing.targets=soft")
    datamodule = Shapes(train_size=20, test_size=10)
    datamodule.setup()
    mixing = build_mixing(config, None, datamodule, None)
    assert mixing is not None
    assert mixing.mixer.num_classes == 10  # pyright: ignore[reportAttributeAccessIssue]


def test_a_fitted_teacher_is_kept_and_told_apart_by_its_settings(tmp_path: Path) -> None:
    data = Shapes(train_size=30, test_size=10, batch_size=10)
    data.setup()
    settings: dict[str, Any] = {"network": resnet8, "folder": tmp_path, "precision": "32-true", "progress": False}
    first = fit_teacher(data, epochs=1, **settings)
    kept = list(tmp_path.glob("*.pth"))
    second = fit_teacher(data, epochs=1, **settings)
    assert list(tmp_path.glob("*.pth")) == kept
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(first(images), second(images))
    fit_teacher(data, epochs=1, learning_rate=0.05, **settings)
    assert len(list(tmp_path.glob("*.pth"))) == 2

    def own(num_classes: int) -> torch.nn.Module:
        return resnet8(num_classes=num_classes)

    own.__name__ = "resnet8"  # of another module
    settings["network"] = own
    fit_teacher(data, epochs=1, **settings)
    assert len(list(tmp_path.glob("*.pth"))) == 3


def test_a_teacher_is_trained_in_the_memory_format_of_its_passes(tmp_path: Path) -> None:
    built = []

    def network(num_classes: int) -> torch.nn.Module:
        built.append(resnet8(num_classes=num_classes))
        return built[-1]

    data = Shapes(train_size=10, test_size=10, batch_size=10)
    data.setup()
    settings = {"network": network, "precision": "32-true", "progress": False, "epochs": 1}
    for channels_last in (False, True):
        built.clear()
        fit_teacher(data, folder=tmp_path / str(channels_last), channels_last=channels_last, **settings)
        weights = [weight for weight in built[0].parameters() if weight.dim() == 4 and weight.shape[2] == 3]
        assert all(each.is_contiguous(memory_format=torch.channels_last) == channels_last for each in weights)


def test_a_teacher_is_fitted_on_image_files(tmp_path: Path) -> None:
    for part, name in itertools.product(("train", "val"), ("dark", "light")):
        folder = tmp_path / part / name
        folder.mkdir(parents=True)
        Image.new("RGB", (40, 36), (200, 200, 200) if name == "light" else (9, 9, 9)).save(folder / "one.png")
    settings = {"network": resnet8, "folder": tmp_path / "kept", "precision": "32-true", "progress": False, "epochs": 1}
    for ratio in (1.0, 1.0, 1.5):
        data = ImageFolder(folder=tmp_path, size=32, resize_ratio=ratio, num_workers=0, batch_size=2)
        data.setup()
        assert fit_teacher(data, **settings)(torch.rand(2, 3, 32, 32)).shape == (2, 2)
    assert len(list((tmp_path / "kept").glob("*.pth"))) == 2


def test_a_fitted_teacher_sees_all_images_whatever_the_student_has(tmp_path: Path) -> None:
    settings = {"network": resnet8, "folder": tmp_path, "precision": "32-true", "progress": False, "epochs": 1}
    few: list[dict[str, Any]] = [{}, {"images_per_class": 1, "epoch_batches": 3}, {"images_per_class": 2, "seed": 5}]
    for options in few:
        data = Shapes(train_size=60, test_size=10, batch_size=10, **options)
        data.setup()
        fit_teacher(data, **settings)
        assert (data.images_per_class, data.epoch_batches) == (
            options.get("images_per_class"),
            options.get("epoch_batches"),
        )
    assert len(list(tmp_path.glob("*.pth"))) == 1
    other = Shapes(train_size=50, test_size=10, batch_size=10)
    other.setup()
    fit_teacher(other, **settings)
    held = Shapes(train_size=60, test_size=10, batch_size=10, validation_fraction=0.3)
    held.setup()
    fit_teacher(held, **settings)
    assert len(list(tmp_path.glob("*.pth"))) == 3


def sweep(folder: Path, *overrides: str) -> list[dict[str, float]]:
    command = [sys.executable, "-m", "supermix_pl.experiments.train", "-m", *SMALL]
    command += ["teacher=fitted", "network@teacher.network=resnet8", "teacher.epochs=1", "teacher.progress=false"]
    command += ["teacher.precision=32-true", f"paths.cache_dir={folder}", "hydra.sweep.dir=sweep", "mixer.max_steps=2"]
    done = subprocess.run([*command, *overrides], cwd=folder, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(path.read_text()) for path in sorted(folder.glob("sweep/*/metrics.json"))]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_leaves_a_result_for_every_job(tmp_path: Path, launcher: str) -> None:
    overrides = ["mixer=supermix", "mixer.k=2,3", "mixer.lambda_s=0,25", f"hydra/launcher={launcher}"]
    assert len(sweep(tmp_path, *overrides)) == 4
    settings = [OmegaConf.load(path).mixer for path in sorted(tmp_path.glob("sweep/*/config.yaml"))]
    assert {(mixer.k, mixer.lambda_s) for mixer in settings} == {(2, 0), (2, 25), (3, 0), (3, 25)}


@pytest.mark.slow
def test_a_sweep_with_a_script_launcher_stops_with_advice(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "supermix_pl.experiments.train", "-m", *SMALL, "seed=0,1", "trainer.devices=2"]
    command += ["trainer.strategy=ddp", "hydra.sweep.dir=sweep"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "expected one device a job in a multirun, got 2" in done.stderr
