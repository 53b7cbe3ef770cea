"""Policy files of Fast AutoAugment: ranges, the example, and what is wrong with bad ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from supermix_pl.experiments.data import FastAutoAugment
from supermix_pl.experiments.data.fast_autoaugment import _OPERATIONS, EXAMPLE, read_policy


def written(folder: Path, entries: Any) -> Path:
    path = folder / "policy.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return path


@pytest.mark.parametrize(
    ("name", "low", "high", "mirrored"),
    [
        ("ShearX", -0.3, 0.3, True),
        ("ShearY", -0.3, 0.3, True),
        ("TranslateX", -0.45, 0.45, True),
        ("TranslateY", -0.45, 0.45, True),
        ("Rotate", -30, 30, True),
        ("Solarize", 0, 256, False),
        ("Posterize", 4, 8, False),
        ("Contrast", -0.9, 0.9, False),
        ("Color", -0.9, 0.9, False),
        ("Brightness", -0.9, 0.9, False),
        ("Sharpness", -0.9, 0.9, False),
        ("Cutout", 0, 0.2, False),
    ],
)
def test_levels_run_over_the_published_ranges(
    name: str, low: float, high: float, mirrored: bool, tmp_path: Path
) -> None:
    path = written(tmp_path, [[[name, 0.25, 0], [name, 1, 1], [name, 0.0, 0.5]]])
    ((first, second, third),) = read_policy(path)
    assert (first[2], second[2], third[2]) == pytest.approx((low, high, (low + high) / 2))
    assert (first[1], second[1], third[1]) == (0.25, 1, 0)
    assert _OPERATIONS[name][2] == mirrored


def test_sub_policies_may_differ_in_length(tmp_path: Path) -> None:
    path = written(tmp_path, [[["Invert", 0.5, 0.1]], [["Equalize", 1.0, 0], ["AutoContrast", 0.2, 1]]])
    policy = FastAutoAugment(policy=str(path))
    names = [[name for name, *_ in sub_policy] for sub_policy in policy.sub_policies]
    assert names == [["Invert"], ["Equalize", "AutoContrast"]]


def test_the_example_ships_and_can_be_read() -> None:
    assert FastAutoAugment(policy="example").sub_policies == tuple(read_policy(EXAMPLE))
    assert len(read_policy(EXAMPLE)) >= 5


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[[[", "expected a policy file of JSON, got .*policy.json, which cannot be read: Expecting value"),
        ([], r"expected a list of sub-policies, each a list, in .*policy.json, got \[\]"),
        ({"policy": 1}, "got {'policy': 1}"),
        ([[]], r"each a list, in .*policy.json, got \[\[\]\]"),
        ([[["Invert", 1, 0]], "Invert"], "each a list, in .*policy.json, got .*'Invert'"),
        ([[["Invert", 1]]], r"level\], .*, got \['Invert', 1\] in sub-policy 0 of .*policy.json, operation 0"),
        ([["Invert", 1, 0]], r"expected \[operation, probability, level\], .*, got Invert in sub-policy 0"),
        ([[["Blur", 1, 0]]], r"operation of ShearX, .*Invert, .*Cutout and two numbers .*, got \['Blur', 1, 0\]"),
        ([[[["Invert"], 1, 0]]], r"got \[\['Invert'\], 1, 0\]"),
        ([[["Invert", 1.5, 0]]], r"in \[0, 1\], got \['Invert', 1.5, 0\] in sub-policy 0 of .*, operation 0"),
        ([[["Invert", 1, 0], ["Rotate", 1, -0.1]]], r"got \['Rotate', 1, -0.1\] in .*, operation 1"),
        ([[["Rotate", "1", 0]]], r"got \['Rotate', '1', 0\]"),
        ('[[["Rotate", NaN, 0]]]', r"got \['Rotate', nan, 0\]"),
    ],
)
def test_bad_files_are_refused(entries: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        FastAutoAugment(policy=str(written(tmp_path, entries)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got .*nowhere.json, which cannot be read: .*No such file"):
        FastAutoAugment(policy=str(tmp_path / "nowhere.json"))
