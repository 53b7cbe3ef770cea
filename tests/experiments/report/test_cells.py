"""Which cell a run is in, what the cells say, and which runs are kept apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supermix_pl.experiments.report.paper import cells, not_comparable, text
from supermix_pl.experiments.report.runs import Block, blocks, read
from supermix_pl.experiments.shared.runs.folders import Run
from supermix_pl.experiments.shared.runs.identity import Place, place
from supermix_pl.experiments.shared.runs.paper import load
from tests.experiments.report.report_folders import config_of, write_run

PAIR = "wrn_40_2-wrn_16_2"
IMAGENET = {"_target_": "supermix_pl.experiments.data.ImageFolder", "folder": "/d/imagenet"}
POLICY = {"_target_": "supermix_pl.experiments.data.RandAugment"}
CIFAR_VIEW = {"_target_": "supermix_pl.experiments.data.SmallImageView", "policy": POLICY}
D_PRIME = {"_target_": "supermix_pl.experiments.mixes.Fixed", "size": 500_000}
Add = Callable[..., Path]


class Folder:
    """A folder that runs are added to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def add(self, accuracy: float = 70.0, **settings: Any) -> Path:
        self.count += 1
        return write_run(self.path / f"{self.count:02}", accuracy, **settings)

    def blocks(self, table: str = "table2") -> list[Block]:
        runs, problems = read([self.path])
        assert not problems
        return blocks(runs, table)

    def cells(self, table: str = "table2") -> dict[tuple[str, str, str], dict[str, Any]]:
        (block,) = self.blocks(table)
        found = cells(load().tables[table], block).to_dict("records")
        return {(cell["column"], cell["row"], cell["metric"]): {**cell} for cell in found}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def placed(**settings: Any) -> Place:
    return place(Run(folder=Path(), config=config_of(**settings), metrics={}, seed=0, written=0.0))


@pytest.mark.parametrize(
    ("settings", "table", "column", "method"),
    [
        ({}, "table2", PAIR, "kd"),
        ({"table": None}, "table2", PAIR, "kd"),
        ({"table": None, "pair": "vgg13-MobileNetV2"}, "table3", "vgg13-MobileNetV2", "kd"),
        ({"table": None, "data": IMAGENET}, "custom", PAIR, "kd"),
        ({"table": "table3"}, "custom", PAIR, "kd"),
        ({"method": "kd_mine"}, "custom", PAIR, "kd_mine"),
        ({"method": "kd_supermix", "k": 3}, "custom", PAIR, "kd_supermix_k3"),
        ({"table": "table5", "pair": "resnet34-resnet18"}, "table5", "resnet34-resnet18", "kd"),
        (
            {"table": "table5", "pair": "resnet34-resnet18", "method": "ce_supermix"},
            "table5",
            "resnet34-resnet18",
            "ce_supermix_k2",
        ),
        (
            {"table": None, "pair": "resnet34-resnet18", "method": "ce_supermix", "k": 3, "data": IMAGENET},
            "table5",
            "resnet34-resnet18",
            "ce_supermix_k3",
        ),
        (
            {"table": "table5", "pair": "resnet34-resnet18", "method": "ce_mixup", "k": 3},
            "custom",
            "resnet34-resnet18",
            "ce_mixup_k3",
        ),
        ({"table": "table1", "pair": None, "network_name": "wrn_40_2", "taught_by": "t"}, "custom", "t-wrn_40_2", "kd"),
        (
            {"table": "table1", "method": "ce_supermix", "k": 3, "network_name": "imagenet_resnet50"},
            "table1",
            "resnet50",
            "ce_supermix",
        ),
        ({"table": "table1", "method": "plain", "network_name": "wrn_28_10"}, "table1", "wrn_28_10", "plain"),
        (
            {"table": "table1", "method": "randaugment", "network_name": "wrn_28_10", "data": {"augment": CIFAR_VIEW}},
            "table1",
            "wrn_28_10",
            "randaugment",
        ),
        (
            {"table": "table1", "method": "randaugment", "pair": "wrn_28_10-wrn_28_10", "data": {"augment": POLICY}},
            "custom",
            "wrn_28_10-wrn_28_10",
            "randaugment_imagenet",
        ),
        (
            {
                "table": "table1",
                "method": "randaugment",
                "network_name": "imagenet_resnet50",
                "data": IMAGENET | {"augment": POLICY},
            },
            "table1",
            "resnet50",
            "randaugment",
        ),
        (
            {
                "table": "table1",
                "method": "randaugment",
                "pair": "resnet50-resnet50",
                "data": IMAGENET | {"augment": CIFAR_VIEW},
            },
            "custom",
            "resnet50-resnet50",
            "randaugment_cifar",
        ),
        (
            {"table": None, "method": "plain", "pair": None, "network_name": "wrn_28_10"},
            "custom",
            "wrn_28_10 (no teacher)",
            "plain",
        ),
        (
            {"table": None, "method": None, "pair": None, "network_name": "a", "taught_by": "b"},
            "custom",
            "b-a",
            "plain",
        ),
    ],
)
def test_the_cell_of_a_run(settings: dict[str, Any], table: str, column: str, method: str) -> None:
    assert placed(**settings) == Place(table=table, column=column, method=method)


@pytest.mark.parametrize(
    ("nodes", "method"),
    [
        ({}, "plain"),
        ({"task": {"_target_": "t.Distillation"}}, "kd"),
        ({"task": {"_target_": "mine.Loss", "kd_weight": 0.9}}, "kd"),
        ({"task": {"_target_": "t.ContrastiveDistillation"}}, "crd"),
        ({"mixer": {"_target_": "supermix_pl.SuperMix", "k": 2}}, "ce_supermix"),
        ({"mixer": {"_target_": "supermix_pl.CutMix"}, "mixing": {"distillation_weight": 0.9}}, "kd_cutmix"),
        ({"mixing": {"distillation_weight": 0.9}}, "plain"),
        ({"mixer": {"_target_": "supermix_pl.CutMix", "k": 3}, "task": {"_target_": "t.Distillation"}}, "kd_cutmix_k3"),
    ],
)
def test_methods_that_were_put_together_by_hand(nodes: dict[str, Any], method: str) -> None:
    assert placed(method=None, pair=None, table=None, **nodes).method == method


def test_networks_of_timm_have_their_own_names() -> None:
    nodes = {"_target_": "supermix_pl.experiments.networks.timm_network", "name": "vit_tiny"}
    assert placed(pair=None, table=None, network=nodes, taught_by="resnet20").column == "resnet20-vit_tiny"


def test_mean_deviation_star_and_difference(folder: Folder) -> None:
    accuracies = [71.9, 72.4, 72.1]
    for seed, accuracy in enumerate(accuracies):
        folder.add(accuracy, method="kd_supermix", seed=seed)
    folder.add(71.9, method="kd", seed=5)
    cell = folder.cells()[PAIR, "kd_supermix", "top1"]
    np.testing.assert_allclose([cell["mean"], cell["std"]], [np.mean(accuracies), np.std(accuracies, ddof=1)])
    assert cell["best_mean"] == pytest.approx(cell["mean"] + 0.2)
    assert cell["star"]  # 72.13 > 72
    assert cell["difference"] == pytest.approx(np.mean(accuracies) - 77.45)
    assert text(cell, best=False, stars=True) == "72.13* ± 0.25"
    assert text(cell, best=False, stars=False) == "72.13 ± 0.25"
    single = folder.cells()[PAIR, "kd", "top1"]
    assert text(single, best=False, stars=True) == "71.90"
    assert text(single, best=True, stars=True) == "72.10*"


def test_no_star_for_the_teachers_own_accuracy(folder: Folder) -> None:
    for seed in range(3):
        folder.add(seed=seed, metrics={"test/accuracy": float(np.float32(0.72)), "teacher/accuracy": 0.72})
    assert not folder.cells()[PAIR, "kd", "top1"]["star"]


def test_cells_have_the_papers_numbers_in_its_order(folder: Folder) -> None:
    for method in ("kd_supermix", "kd", "mine"):
        folder.add(method=method, table="table2" if method != "mine" else None)
    folder.add(method="kd", pair="resnet56-resnet20")
    found = folder.cells()
    assert [cell[:2] for cell in found] == [
        *((PAIR, row) for row in ("teacher", "kd", "kd_supermix")),
        *(("resnet56-resnet20", row) for row in ("teacher", "kd")),
    ]
    paper = found[PAIR, "kd_supermix", "top1"]
    assert (paper["paper_value"], paper["paper_star"], paper["paper_text"]) == (77.45, True, "77.45*")


def test_the_teachers_row(folder: Folder) -> None:
    for seed in range(3):
        folder.add(seed=seed)
    folder.add(method="plain")
    cell = folder.cells()[PAIR, "teacher", "top1"]
    assert text(cell, best=False, stars=True) == "72.00"
    assert cell["difference"] == pytest.approx(72 - 75.61)
    assert text(cell, best=True, stars=True) == "-"


def test_different_teachers_are_kept_apart(folder: Folder) -> None:
    folder.add(seed=0)
    folder.add(seed=1, metrics={"teacher/accuracy": 0.7201})  # the same on another device
    folder.add(seed=2, metrics={"teacher/accuracy": 0.75})
    (block,) = folder.blocks()
    assert block.teachers(PAIR) == [72, 75]
    assert {row: cell["num_seeds"] for (_, row, _), cell in folder.cells().items() if cell["num_seeds"] > 0} == {
        "kd (teacher/accuracy=72.0)": 2,
        "kd (teacher/accuracy=75.0)": 1,
    }


def test_best_epochs_are_missing_unless_all_runs_have_them(folder: Folder) -> None:
    folder.add(seed=0)
    folder.add(seed=1, metrics={"val/accuracy_best": None})
    cell = folder.cells()[PAIR, "kd", "top1"]
    assert text(cell, best=True, stars=True) == "-"
    assert text(cell, best=False, stars=True) == "70.00 ± 0.00"
    assert not cell["best_star"]


def test_different_settings_of_a_cell_are_kept_apart_and_say_how(folder: Folder) -> None:
    for seed in range(2):
        folder.add(60 + seed, seed=seed)
        folder.add(80 + seed, seed=seed, optimizer={"lr": 0.01})
    found = folder.cells()
    assert text(found[PAIR, "kd (optimizer.lr=0.05)", "top1"], best=False, stars=False) == "60.50 ± 0.71"
    assert text(found[PAIR, "kd (optimizer.lr=0.01)", "top1"], best=False, stars=False) == "80.50 ± 0.71"
    assert (PAIR, "kd", "top1") not in found


def test_budgets_get_blocks_of_their_own_the_papers_first(folder: Folder) -> None:
    whole = {"images_per_class": None}
    folder.add(60, seed=0)
    folder.add(61, seed=0, data={"images_per_class": 100})
    folder.add(62, seed=0, protocol="equal", scale="paper", data=whole)
    folder.add(63, seed=0, scale="paper", data=whole)
    found = folder.blocks()
    assert [block.title for block in found] == [
        "protocol paper, scale paper, cifar100",
        "protocol paper, scale cpu, cifar100, 50 images a class",
        "protocol paper, scale cpu, cifar100, 100 images a class",
        "protocol equal, scale paper, cifar100",
    ]
    assert [len(block.trials()) for block in found] == [1, 1, 1, 1]


def test_blocks_are_in_order_of_the_images(folder: Folder) -> None:
    folder.add(60, seed=0, data={"images_per_class": None})
    for images in (50, 100, 9):
        folder.add(60, seed=0, data={"images_per_class": images})
    ends = [block.title.rpartition(", ")[2] for block in folder.blocks()]
    assert ends == ["9 images a class", "50 images a class", "100 images a class", "cifar100"]


def test_blocks_of_one_title_say_how_they_differ(folder: Folder) -> None:
    folder.add(data={"data_seed": 0})
    folder.add(data={"data_seed": 1})
    titles = [block.title for block in folder.blocks()]
    assert titles == [f"protocol paper, scale cpu, cifar100, 50 images a class (data_seed={seed})" for seed in (0, 1)]


def test_of_two_runs_of_a_seed_the_newest_counts(folder: Folder) -> None:
    oldest = folder.add(60, seed=1, written=100)
    newest = folder.add(70, seed=1, written=300)
    middle = folder.add(80, seed=1, written=200)
    folder.add(72, seed=2, written=50)
    (block,) = folder.blocks()
    told = "{}: the cell, settings and seed 1 of {}, which is newer and counts."
    assert block.not_counted == [told.format(older, newest) for older in (oldest, middle)]
    cell = folder.cells()[PAIR, "kd", "top1"]
    assert text(cell, best=False, stars=False) == "71.00 ± 1.41"


def test_one_seed_in_two_cells_is_no_duplicate(folder: Folder) -> None:
    folder.add(method="kd")
    folder.add(method="crd")
    folder.add(pair="vgg13-vgg8")
    (block,) = folder.blocks()
    assert block.not_counted == []
    assert len(block.trials()) == 3


def test_imagenet_has_top5(folder: Folder) -> None:
    for seed in range(2):
        folder.add(70 + seed, method="ce_supermix", pair="resnet34-resnet18", table="table5", seed=seed, data=IMAGENET)
    found = folder.cells("table5")
    assert len(found) == 2 * 2
    assert text(found["resnet34-resnet18", "ce_supermix_k2", "top1"], best=False, stars=True) == "70.50 ± 0.71"
    top5 = found["resnet34-resnet18", "ce_supermix_k2", "top5"]
    assert text(top5, best=False, stars=True) == "90.50 ± 0.71"
    assert text(top5, best=True, stars=True) == "91.50 ± 0.71"
    assert text(found["resnet34-resnet18", "teacher", "top5"], best=False, stars=True) == "92.00"


def test_custom_has_the_runs_alone(folder: Folder) -> None:
    folder.add(method="kd_mine", taught_by="b", network_name="a", pair=None)
    found = folder.cells("custom")
    assert set(found) == {("b-a", "teacher", "top1"), ("b-a", "kd_mine", "top1")}
    assert all(cell["paper_value"] is None for cell in found.values())


def test_cells_say_how_closely_students_follow_their_teachers(folder: Folder) -> None:
    for seed, (agreement, divergence) in enumerate([(0.71, 0.5), (0.72, 0.75)]):
        measured = {"test/teacher_agreement": agreement, "test/teacher_kl": divergence}
        folder.add(method="kd", seed=seed, metrics=measured)
    cell = folder.cells()[PAIR, "kd", "top1"]
    assert (cell["agreement"], cell["divergence"]) == pytest.approx((0.715, 0.625))


@pytest.mark.parametrize(
    ("method", "samples", "reasons"),
    [
        ("kd", 12_000_000, []),
        ("kd_supermix", 60_000_000, []),
        ("kd_supermix", 12_000_000, ["kd_supermix: 12000000 student samples, not 60000000"]),
    ],
)
def test_the_papers_student_samples(folder: Folder, method: str, samples: int, reasons: list[str]) -> None:
    folder.add(
        method=method,
        scale="paper",
        data={"images_per_class": None},
        mixes=D_PRIME,
        metrics={"student_samples": samples},
    )
    (block,) = folder.blocks()
    assert not_comparable(load().tables["table2"], block) == reasons


@pytest.mark.parametrize(
    ("k", "size", "reasons"),
    [
        (3, 1_000_000, []),
        (2, 500_000, ["ce_supermix: 500000 mixes, not 1000000", "ce_supermix: k = 2, not 3"]),
    ],
)
def test_table1_on_imagenet_has_the_papers_mixes(folder: Folder, k: int, size: int, reasons: list[str]) -> None:
    data = {"folder": "/data/imagenet", "images_per_class": None}
    own = {"table": "table1", "pair": None, "network_name": "imagenet_resnet50", "scale": "paper"}
    folder.add(
        method="ce_supermix",
        k=k,
        data=data,
        mixes={"_target_": "supermix_pl.experiments.mixes.Fixed", "size": size},
        **own,
    )
    (block,) = folder.blocks("table1")
    assert not_comparable(load().tables["table1"], block) == reasons


def test_mixes_that_are_made_in_the_training_are_not_the_papers(folder: Folder) -> None:
    samples = {"student_samples": 60_000_000}
    folder.add(method="kd_supermix", scale="paper", data={"images_per_class": None}, metrics=samples)
    (block,) = folder.blocks()
    assert not_comparable(load().tables["table2"], block) == [
        "kd_supermix: mixes made in the training, not 500000 before it"
    ]


def test_what_command_lines_change_is_not_the_papers(folder: Folder) -> None:
    own: dict[str, Any] = {"scale": "paper", "data": {"images_per_class": None}}
    placed = ("experiment=table2", "method=kd", "seed=1", "data=parquet", "data.folder=a", "trainer.devices=2")
    for seed, changed in enumerate([(), ("optimizer.lr=0.3",), ("optimizer.lr=0.3", "~scheduler.warmup")]):
        folder.add(overrides=placed + changed, seed=seed, metrics={"student_samples": 12_000_000}, **own)
    samples = {"student_samples": 60_000_000}
    folder.add(method="ce_mixup", overrides=("experiment=ablation_mixes",), mixes=D_PRIME, metrics=samples, **own)
    (block,) = folder.blocks()
    assert not_comparable(load().tables["table2"], block) == [
        "kd: optimizer.lr=0.3, ~scheduler.warmup",
        "ce_mixup: experiment=ablation_mixes",
    ]


def test_a_network_on_other_data_than_its_column_is_not_comparable(folder: Folder) -> None:
    own = {"table": "table1", "pair": None, "network_name": "ResNet50", "scale": "paper"}
    folder.add(method="plain", data={"images_per_class": None}, **own)
    (block,) = folder.blocks("table1")
    assert not_comparable(load().tables["table1"], block) == ["data cifar100"]
