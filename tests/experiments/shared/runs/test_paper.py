"""The paper's numbers as `supermix-report` has them, against the shared transcript of its tables."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from supermix_pl.experiments.shared.runs.paper import canonical, load

METHODS_OF_TABLE1 = {
    "baseline": "plain",
    "mixup": "ce_mixup",
    "cutmix": "ce_cutmix",
    "supermix": "ce_supermix",
    "supermix_plus_randaugment": "ce_supermix_randaugment",
}


@pytest.fixture
def transcript(shared: Path) -> dict[str, Any]:
    return yaml.safe_load((shared / "paper" / "tables.yaml").read_text())


def shown(table: str, column: str, metric: str) -> dict[str, tuple[float, bool]]:
    numbers = load().tables[table].columns[column].numbers[metric]
    return {method: (number.value, number.star) for method, number in numbers.items()}


def test_table1(transcript: dict[str, Any]) -> None:
    content = transcript["table1"]
    table = load().tables["table1"]
    assert len(table.columns) == len(content["rows"]) == 5
    methods = [METHODS_OF_TABLE1.get(name, name) for name in content["columns"]]
    for row in content["rows"]:
        name = row["model"].removesuffix("_a")
        assert table.columns[name].dataset == row["dataset"]
        assert table.columns[name].bold == [METHODS_OF_TABLE1.get(each, each) for each in row["best_marked"]]
        assert list(table.columns[name].numbers) == [metric for metric in ("top1", "top5") if metric in row]
        for metric in table.columns[name].numbers:
            assert shown("table1", name, metric) == {
                method: (value, False) for method, value in zip(methods, row[metric], strict=True)
            }


@pytest.mark.parametrize("name", ["table2", "table3"])
def test_tables_2_and_3(transcript: dict[str, Any], name: str) -> None:
    content, table = transcript[name], load().tables[name]
    pairs = [f"{pair['teacher']}-{pair['student']}" for pair in content["pairs"]]
    assert list(table.columns) == pairs
    for number, (pair, given) in enumerate(zip(pairs, content["pairs"], strict=True)):
        expected = {"teacher": (given["teacher_acc"], False), "plain": (given["student_acc"], False)}
        for method, row in content["rows"].items():
            expected[method] = row["acc"][number], row["surpasses_teacher"][number]
        assert shown(name, pair, "top1") == expected


def test_table5(transcript: dict[str, Any]) -> None:
    content = transcript["table5"]
    methods = ["plain" if name == "student" else name for name in content["columns"]]
    for metric in ("top1", "top5"):
        expected = zip(content[metric], content[f"{metric}_star"], strict=True)
        assert shown("table5", "resnet34-resnet18", metric) == dict(zip(methods, expected, strict=True))


def test_table4(transcript: dict[str, Any]) -> None:
    content, cost = transcript["table4"], load().cost
    names = {"sgd": "sgd", "newton_without_sp": "newton", "newton_with_sp": "newton_sp"}
    assert list(cost["solvers"]) == [names[name] for name in content["columns"]]
    for row, given in zip(cost["columns"], content["rows"], strict=True):
        assert (row["time"], row["iterations"]) == (given["et"], given["iters"])
        assert (row["dataset"], row["network"].removesuffix("_40_2")) == (given["dataset"], given["net"])
        assert {"s": "seconds", "ms": "milliseconds"}[row["unit"]] == content["units"][row["dataset"]]


@pytest.mark.parametrize("name", ["table2", "table3", "table5"])
def test_stars_are_above_the_teacher(name: str) -> None:
    for column in load().tables[name].columns.values():
        for metric, numbers in column.numbers.items():
            above = {method for method, number in numbers.items() if number.value > numbers["teacher"].value}
            stars = {method for method, number in numbers.items() if number.star}
            assert above - stars == ({"kd_mixup_k2"} if (name, metric) == ("table5", "top5") else set())
            assert stars <= above


def test_numbers_are_written_with_their_digits_and_stars() -> None:
    tables = load().tables
    assert tables["table1"].columns["wrn_40_2"].numbers["top1"]["plain"].text == "74.0"
    assert tables["table2"].columns["resnet32x4-resnet8x4"].numbers["top1"]["plain"].text == "72.50"
    assert tables["table2"].columns["wrn_40_2-wrn_16_2"].numbers["top1"]["ce_mixup"].text == "76.20*"


def test_every_method_is_explained() -> None:
    for table in load().tables.values():
        assert {method.partition("_k")[0] for method in table.methods} <= set(load().methods)


@pytest.mark.parametrize(
    ("table", "name", "found"),
    [
        ("table3", "vgg13-MobileNetV2", "vgg13-MobileNetV2"),
        ("table3", "resnet32x4-shufflenet_v1", "resnet32x4-ShuffleV1"),
        ("table1", "imagenet_resnet50", "resnet50"),
        ("table5", "imagenet_resnet34-imagenet_resnet18", "resnet34-resnet18"),
        ("table2", "wrn_16_2-wrn_40_2", None),
        ("custom", "wrn_40_2-wrn_16_2", None),
    ],
)
def test_columns_are_found_however_they_are_spelt(table: str, name: str, found: str | None) -> None:
    column = load().tables[table].find(name)
    assert (column and column.name) == found


def test_names_of_data_are_canonical() -> None:
    assert all(canonical(name) == name for names in load().data_sets.values() for name in names)
