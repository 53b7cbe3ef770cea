"""Cells of the paper's tables: every pair and method composes, and two steps run for each method and each network."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from supermix_pl.experiments import networks
from supermix_pl.experiments.shared.runs.paper import load
from supermix_pl.experiments.train import train
from supermix_pl.transforms import RandomCropFlip
from tests.composing import compose

CONF = Path(__file__).resolve().parents[3] / "conf"
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
PAIRS = sorted(path.stem for path in (CONF / "pair").glob("*-*.yaml"))
CIFAR_METHODS = [method for method in METHODS if not method.startswith("imagenet_")]
ELSEWHERE = ("ce_", "kd_", "callback_", "default_")  # experiments/test_labels trains these methods in `make test` too
HEAVY = {
    *("wrn_28_10", "shake_shake_26_2x96d", "imagenet_resnet200", "imagenet_vgg16"),
    *("imagenet_resnet50", "imagenet_resnet34", "ResNet50", "vgg16", "vgg19", "resnet32x4"),
}
LIGHT = {"resnet8", "vgg8", "ShuffleV2", "imagenet_resnet18"}
QUICK_PAIRS = {"resnet56-resnet20", "ResNet50-vgg8", "wrn_28_10-wrn_28_10", "resnet34-resnet18"}  # one a table
NETWORKS = sorted(
    path.stem for path in (CONF / "network").glob("*.yaml") if path.stem not in ("timm", "efficientnet_lite0")
)
SMALL = ["pair=resnet56-resnet20", "network=resnet8", "network@teacher.network=resnet8"]


def some_are_slow(names: list[str], are: Callable[[str], bool]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) if are(name) else name for name in names]


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("external")
    Image.new("RGB", (40, 36), (200, 30, 90)).save(folder / "one.png")
    Image.new("RGB", (32, 32), (20, 130, 9)).save(folder / "two.png")
    return folder


def cell(folder: Path, *overrides: str) -> DictConfig:
    paths = [f"paths.root_dir={folder}", f"paths.output_dir={folder / 'run'}"]
    return compose("train", [*paths, *overrides])


@pytest.mark.parametrize("method", some_are_slow(CIFAR_METHODS, lambda method: method.startswith(ELSEWHERE)))
def test_every_method_takes_two_steps(method: str, tmp_path: Path, external: Path) -> None:
    own = [f"mixes.folder={external}"] if "imgnet32" in method else []
    config = cell(tmp_path, "experiment=table2", *SMALL, f"method={method}", "scale=smoke", *own)

    metrics = train(config)

    assert metrics["steps"] == 2
    assert metrics["student_samples"] == (16 if config.method.kind == "extended" else 8)
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert not list(tmp_path.rglob("*.ckpt"))  # those of the large networks would take gigabytes
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").method.name == method


@pytest.mark.parametrize("network", some_are_slow(NETWORKS, lambda network: network not in LIGHT))
def test_every_network_takes_two_steps(network: str, tmp_path: Path) -> None:
    few = ["data.batch_size=2", "data.eval_batch_size=2"] if network in HEAVY else []
    config = cell(tmp_path, "experiment=table2", *SMALL, f"network={network}", "method=kd", "scale=smoke", *few)

    metrics = train(config)

    assert metrics["steps"] == 2
    assert metrics["parameters"] > 50_000


@pytest.mark.parametrize(
    ("protocol", "pair"),
    [
        *(pytest.param("paper", pair, marks=[pytest.mark.slow] * (pair not in QUICK_PAIRS)) for pair in PAIRS),
        ("repdistiller", "vgg13-MobileNetV2"),
        ("equal", "vgg13-MobileNetV2"),
    ],
)
def test_every_pair_names_its_networks(protocol: str, pair: str, tmp_path: Path) -> None:
    config = cell(tmp_path, f"pair={pair}", "method=kd_supermix", f"protocol={protocol}")
    OmegaConf.resolve(config)

    assert config.pair.name == pair
    teacher, student = pair.split("-")
    for node, name in ((config.network, student), (config.teacher.network, teacher)):
        assert node._target_.rpartition(".")[2] in (name, f"imagenet_{name}")
        assert hasattr(networks, node._target_.rpartition(".")[2])


def test_every_pair_of_the_tables_has_a_config() -> None:
    paper = load()

    pairs = {name for table in ("table2", "table3", "table5") for name in paper.tables[table].columns}
    networks_of_table1 = {f"{name}-{name}" for name in paper.tables["table1"].columns}

    assert pairs | networks_of_table1 == set(PAIRS)


def test_the_protocols_have_the_published_numbers(tmp_path: Path) -> None:
    pair = "pair=vgg13-MobileNetV2"
    mixed = cell(tmp_path, "experiment=table3", pair, "method=kd_supermix")
    plain = cell(tmp_path, "experiment=table3", "pair=vgg13-MobileNetV2", "method=kd")
    equal = {
        method: cell(tmp_path, "experiment=table2", f"method={method}", "protocol=equal")
        for method in ("kd", "ce_cutmix")
    }

    assert (mixed.trainer.max_epochs, mixed.data.batch_size, mixed.optimizer.lr) == (600, 128, pytest.approx(0.02))
    assert (plain.trainer.max_epochs, plain.data.batch_size, plain.optimizer.lr) == (240, 64, pytest.approx(0.01))
    assert mixed.trainer.check_val_every_n_epoch == 10
    assert (mixed.task.ce_weight, mixed.task.kd_weight, mixed.task.separate_forwards) == (1.8, 0.2, True)
    assert mixed.mixes.size == 500_000
    samples = {
        name: config.trainer.max_epochs * (2 if config.method.kind == "extended" else 1)
        for name, config in equal.items()
    }
    steps = {name: config.trainer.max_epochs / config.data.batch_size for name, config in equal.items()}
    assert samples["kd"] == samples["ce_cutmix"]
    assert steps["kd"] == steps["ce_cutmix"]


@pytest.mark.parametrize(
    ("network", "numbers"),
    [
        ("wrn_40_2", (200, 128, 0.1, 2e-4, True, "cosine", 0.025)),
        pytest.param("wrn_28_10", (200, 128, 0.1, 5e-4, True, "cosine", 0.025), marks=pytest.mark.slow),
        ("shake_shake_26_2x96d", (1800, 128, 0.01, 1e-3, False, "cosine", 0.0)),
        ("resnet50", (270, 256, 0.1, 1e-4, False, "multistep", 0.0185)),
        pytest.param("resnet200", (270, 256, 0.1, 1e-4, False, "multistep", 0.0185), marks=pytest.mark.slow),
    ],
)
def test_table_one_has_the_budget_of_every_network(tmp_path: Path, network: str, numbers: tuple[Any, ...]) -> None:
    for method, weight in {"plain": 1.0, "ce_supermix": 0.5}.items():
        config = cell(tmp_path, "experiment=table1", f"pair={network}-{network}", f"method={method}")

        optimizer, scheduler = config.optimizer, config.scheduler
        assert numbers == (
            *(config.trainer.max_epochs, config.data.batch_size, optimizer.lr, optimizer.weight_decay),
            *(optimizer.nesterov, scheduler._target_.rpartition(".")[2], scheduler.warmup),
        )
        assert config.task.ce_weight == weight


def test_table_five_has_the_settings_of_imagenet(tmp_path: Path) -> None:
    config = cell(tmp_path, "experiment=table5", "mixer.k=3")

    assert (config.mixer.k, config.mixer.sigma, config.mixer.mask_size) == (3, 2.0, 16)
    assert (config.trainer.max_epochs, config.data.batch_size, config.optimizer.weight_decay) == (90, 256, 1e-4)
    assert config.mixes.size == 1_000_000


@pytest.mark.parametrize("method", ["ce_supermix", "ce_supermix_randaugment"])
def test_mixes_of_imagenet_are_shifted_by_a_sixteenth_of_their_side_as_those_of_cifar(
    tmp_path: Path, method: str
) -> None:
    given = ["experiment=table1", f"method={method}"]
    sides = {"wrn_40_2": 32, "resnet50": 224, "resnet200": 224}
    shifts = {pair: shift(cell(tmp_path, *given, f"pair={pair}-{pair}"), side) for pair, side in sides.items()}
    assert shifts == {"wrn_40_2": 2, "resnet50": 14, "resnet200": 14}
    assert shift(cell(tmp_path, "experiment=table5"), 224) == 14


def shift(config: DictConfig, side: int) -> int:
    """Pixels by which mixes of this side are shifted at most."""
    view = instantiate(config.mixing.mixed_transform)
    if isinstance(view, partial):  # a crop and flip, then a policy
        view = view(mean=[0.0] * 3, std=[1.0] * 3).transforms[0]
    assert isinstance(view, RandomCropFlip)
    drawn = view.draw(torch.arange(4000), torch.zeros(4000, dtype=torch.int64), (side, side))
    return int(drawn[:, 0].max()) // 2
