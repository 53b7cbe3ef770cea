"""Which cell a run is in, what the cells say, and which runs are kept apart."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from supermix_pl.experiments.report.paper import cells, not_comparable, text
from supermix_pl.experiments.report.runs import Block, blocks, read, same_teachers
from supermix_pl.experiments.report.tables import chapter
from supermix_pl.experiments.shared.render import Notes
from supermix_pl.experiments.shared.runs.folders import Run
from supermix_pl.experiments.shared.runs.identity import Place, place
from supermix_pl.experiments.shared.runs.paper import load
from tests.experiments.report.report_folders import config_of, write_run

PAIR = "wrn_40_2-wrn_16_2"
IMAGENET = {"_target_": "supermix_pl.experiments.data.ImageFolder", "folder": "/d/imagenet"}
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
        ({"mixer": {"_target_": "supermix_pl.SuperMix", "k": 2}}, "ce_supermix"),
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
    assert cell["best_difference"] == pytest.approx(np.mean(accuracies) + 0.2 - 77.45)
    assert text(cell, best=False, stars=True) == "72.13* ± 0.25"
    assert text(cell, best=False, stars=False) == "72.13 ± 0.25"
    single = folder.cells()[PAIR, "kd", "top1"]
    assert text(single, best=False, stars=True) == "71.90"
    assert text(single, best=True, stars=True) == "72.10*"


def test_no_star_for_the_teachers_own_accuracy(folder: Folder) -> None:
    for seed in range(3):
        folder.add(seed=seed, metrics={"test/accuracy": float(np.float32(0.72)), "teacher/accuracy": 0.72})
    assert folder.cells()[PAIR, "kd", "top1"]["star"] is False


def test_cells_without_runs_are_missing_and_all_there(folder: Folder) -> None:
    folder.add()
    found = folder.cells()
    assert len(found) == 7 * 12
    assert text(found[PAIR, "crd", "top1"], best=False, stars=True) == "-"
    assert np.isnan(found["vgg13-vgg8", "teacher", "top1"]["mean"])
    paper = found["vgg13-vgg8", "kd_supermix", "top1"]
    assert (paper["paper"], paper["paper_star"], paper["paper_text"]) == (76.03, True, "76.03*")


def test_the_teachers_row(folder: Folder) -> None:
    for seed in range(3):
        folder.add(seed=seed)
    folder.add(method="plain")
    cell = folder.cells()[PAIR, "teacher", "top1"]
    assert text(cell, best=False, stars=True) == "72.00"
    assert cell["best_difference"] == pytest.approx(72 - 75.61)


def test_different_teachers_are_kept_apart(folder: Folder) -> None:
    folder.add(seed=0)
    folder.add(seed=1, metrics={"teacher/accuracy": 0.7201})  # the same on another device
    folder.add(seed=2, metrics={"teacher/accuracy": 0.75})
    found = folder.cells()
    assert {row for _, row, _ in found if row.startswith("teacher")} == {
        "teacher",
        "teacher (72.00)",
        "teacher (75.00)",
    }
    assert {row: cell["num_seeds"] for (_, row, _), cell in found.items() if cell["num_seeds"]} == {
        "kd (teacher/accuracy=72.00)": 2,
        "kd (teacher/accuracy=75.00)": 1,
    }


def test_best_epochs_are_missing_unless_all_runs_have_them(folder: Folder) -> None:
    folder.add(seed=0)
    folder.add(seed=1, metrics={"val/accuracy_best": None})
    cell = folder.cells()[PAIR, "kd", "top1"]
    assert text(cell, best=True, stars=True) == "-"
    assert text(cell, best=False, stars=True) == "70.00 ± 0.00"
    assert np.isnan(cell["best_star"])


def test_different_settings_of_a_cell_are_kept_apart_and_say_how(folder: Folder) -> None:
    for seed in range(2):
        folder.add(60 + seed, seed=seed)
        folder.add(80 + seed, seed=seed, optimizer={"lr": 0.01})
    found = folder.cells()
    assert text(found[PAIR, "kd (optimizer.lr=0.05)", "top1"], best=False, stars=False) == "60.50 ± 0.71"
    assert text(found[PAIR, "kd (optimizer.lr=0.01)", "top1"], best=False, stars=False) == "80.50 ± 0.71"
    assert (PAIR, "kd", "top1") not in found


def test_lengths_are_told_apart_across_pairs_and_learning_rates_are_not(folder: Folder) -> None:
    folder.add(epochs=5)
    folder.add(epochs=10, pair="vgg13-vgg8", optimizer={"lr": 0.01})
    folder.add(epochs=240, method="crd")
    (block,) = folder.blocks()
    assert block.rows("kd") == ["kd (5 epochs)", "kd (10 epochs)"]
    assert block.rows("crd") == ["crd"]


def test_budgets_get_blocks_of_their_own_the_papers_first(folder: Folder) -> None:
    whole = {"images_per_class": None}
    folder.add(60, seed=0)
    folder.add(61, seed=0, data={"images_per_class": 100})
    folder.add(62, seed=0, protocol="equal", scale="paper", data=whole)
    folder.add(63, seed=0, scale="paper", data=whole)
    found = folder.blocks()
    assert [block.title for block in found] == [
        "protocol paper, scale paper, cifar100, all images",
        "protocol paper, scale cpu, cifar100, 50 images a class",
        "protocol paper, scale cpu, cifar100, 100 images a class",
        "protocol equal, scale paper, cifar100, all images",
    ]
    assert [len(block.trials()) for block in found] == [1, 1, 1, 1]


def test_blocks_are_in_order_of_the_images_and_all_only_stands_beside_fewer(folder: Folder) -> None:
    folder.add(60, seed=0, data={"images_per_class": None})
    assert [block.title for block in folder.blocks()] == ["protocol paper, scale cpu, cifar100"]
    for images in (50, 100, 9):
        folder.add(60, seed=0, data={"images_per_class": images})
    ends = [block.title.rpartition(", ")[2] for block in folder.blocks()]
    assert ends == ["9 images a class", "50 images a class", "100 images a class", "all images"]


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


def test_plain_runs_serve_every_pair_of_their_student(folder: Folder) -> None:
    teacher = {"teacher": {"network": {"_target_": "resnet56"}}, "metrics": {"teacher/accuracy": 0.9}}
    folder.add(60, method="plain", pair="resnet56-resnet20", **teacher)
    folder.add(65, method="kd", pair="resnet110-resnet20")
    found = folder.cells()
    (block,) = folder.blocks()
    assert text(found["resnet110-resnet20", "plain", "top1"], best=False, stars=True) == "60.00"
    assert text(found["resnet110-resnet20", "teacher", "top1"], best=False, stars=True) == "72.00"
    assert block.borrowed == {"resnet110-resnet20": "resnet56-resnet20"}
    folder.add(61, method="plain", pair="resnet110-resnet20")
    assert text(folder.cells()["resnet110-resnet20", "plain", "top1"], best=False, stars=True) == "61.00"


def test_plain_runs_are_lent_by_one_pair(folder: Folder) -> None:
    folder.add(60, method="plain", pair="a-resnet20", table=None)
    for seed in range(2):
        folder.add(64, method="plain", pair="resnet56-resnet20", seed=seed)
    folder.add(65, pair="resnet110-resnet20")
    (block,) = folder.blocks()
    assert text(folder.cells()["resnet110-resnet20", "plain", "top1"], best=False, stars=True) == "64.00 ± 0.00"
    assert block.not_counted == []


def test_plain_runs_serve_tables_but_not_budgets(folder: Folder) -> None:
    folder.add(60, method="plain", pair="vgg13-vgg8")
    folder.add(65, pair="ResNet50-vgg8", table="table3")
    assert text(folder.cells("table3")["ResNet50-vgg8", "plain", "top1"], best=False, stars=True) == "60.00"
    folder.add(65, pair="ResNet50-vgg8", table="table3", scale="gpu")
    other = next(block for block in folder.blocks("table3") if block.budget.scale == "gpu")
    assert other.borrowed == {}


def test_plain_runs_of_a_tables_pair_serve_its_custom_methods(folder: Folder) -> None:
    folder.add(60, method="plain")
    folder.add(65, method="kd_mine")
    assert text(folder.cells("custom")[PAIR, "plain", "top1"], best=False, stars=True) == "60.00"


def test_plain_runs_of_table1_have_another_schedule(folder: Folder) -> None:
    folder.add(method="plain", table="table1", pair=None, network_name="wrn_40_2")
    folder.add(table=None, pair=None, network_name="wrn_40_2", taught_by="resnet110")
    (block,) = folder.blocks("custom")
    assert block.borrowed == {}


def test_imagenet_has_top5(folder: Folder) -> None:
    for seed in range(2):
        folder.add(70 + seed, method="ce_supermix", pair="resnet34-resnet18", table="table5", seed=seed, data=IMAGENET)
    found = folder.cells("table5")
    assert len(found) == 2 * 12
    assert text(found["resnet34-resnet18", "ce_supermix_k2", "top1"], best=False, stars=True) == "70.50 ± 0.71"
    top5 = found["resnet34-resnet18", "ce_supermix_k2", "top5"]
    assert text(top5, best=False, stars=True) == "90.50 ± 0.71"
    assert text(top5, best=True, stars=True) == "91.50 ± 0.71"
    assert text(found["resnet34-resnet18", "teacher", "top5"], best=False, stars=True) == "92.00"


def test_table1_shows_the_networks_of_the_blocks_data(folder: Folder) -> None:
    folder.add(method="plain", table="table1", pair=None, network_name="wrn_40_2")
    columns = {column for column, _, _ in folder.cells("table1")}
    assert columns == {"wrn_40_2", "wrn_28_10", "shake_shake_26_2x96d"}


def test_custom_has_the_runs_alone(folder: Folder) -> None:
    folder.add(method="kd_mine", taught_by="b", network_name="a", pair=None)
    found = folder.cells("custom")
    assert set(found) == {("b-a", "teacher", "top1"), ("b-a", "kd_mine", "top1")}
    assert all(cell["paper"] is None for cell in found.values())
    assert len(chapter(load().tables["custom"], folder.blocks("custom")[0], best=False)) == 3


def test_the_head_says_how_closely_students_follow_their_teachers(folder: Folder) -> None:
    for seed, (agreement, divergence) in enumerate([(0.71, 0.5), (0.72, 0.75)]):
        measured = {"test/teacher_agreement": agreement, "test/teacher_kl": divergence}
        folder.add(method="kd", seed=seed, metrics=measured)
    folder.add(method="ce_mixup")
    (block,) = folder.blocks()
    notes = chapter(load().tables["table2"], block, best=False)[1]
    assert isinstance(notes, Notes)
    assert "Test images, agreement with the teacher and KL to it: 71.50 % and 0.625 nats (kd)." in notes.lines


def test_the_head_says_where_mixes_came_from(folder: Folder) -> None:
    folder.add(method="kd")
    folder.add(method="ce_mixup", mixes={"_target_": "supermix_pl.experiments.mixes.Fixed", "size": 10000})
    folder.add(method="ce_cutmix")
    folder.add(
        method="ce_imgnet32", mixes={"_target_": "supermix_pl.experiments.mixes.External", "folder": "/x/imgnet32"}
    )
    (block,) = folder.blocks()
    notes = chapter(load().tables["table2"], block, best=False)[1]
    assert isinstance(notes, Notes)
    mixes = "fixed, 10 000 (ce_mixup); on the fly (ce_cutmix); external images, imgnet32 (ce_imgnet32)"
    assert f"Mixes: {mixes}." in notes.lines


@pytest.mark.parametrize(
    ("method", "samples", "reasons"),
    [
        ("kd", 12_000_000, []),
        ("kd_supermix", 60_000_000, []),
        ("kd_supermix", 12_000_000, ["kd_supermix: 12 000 000 student samples, not 60 000 000"]),
    ],
)
def test_the_papers_student_samples(folder: Folder, method: str, samples: int, reasons: list[str]) -> None:
    folder.add(method=method, scale="paper", data={"images_per_class": None}, metrics={"student_samples": samples})
    (block,) = folder.blocks()
    assert not_comparable(load().tables["table2"], block) == reasons


@pytest.mark.parametrize(
    ("k", "size", "reasons"),
    [
        (3, 1_000_000, []),
        (2, 500_000, ["ce_supermix: 500 000 mixes, not 1 000 000", "ce_supermix: k = 2, not 3"]),
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


@given(st.lists(st.floats(0, 1), max_size=8))
def test_teachers_are_the_same_without_a_gap_between_them(accuracies: list[float]) -> None:
    teachers = same_teachers(pd.Series([*accuracies, math.nan], dtype=float))
    assert math.isnan(teachers.iloc[-1])
    known = dict(zip(accuracies, teachers, strict=False))
    for before, after in pairwise(sorted(known)):
        assert (known[before] == known[after]) == (after - before <= 1e-3)
