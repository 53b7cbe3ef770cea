"""Which trainings are the same up to their seed, and what is said of those that are not."""

import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from supermix_pl.experiments.shared.runs.budget import Budget, budget, differences, label, training
from supermix_pl.experiments.shared.runs.folders import Run
from tests.experiments.report.report_folders import config_of

SETTINGS = st.dictionaries(st.sampled_from("abc"), st.sampled_from([None, True, False, 0, 1, "x", [1]]))


def mixes(kind: str, **settings: Any) -> dict[str, Any]:
    return {"_target_": f"supermix_pl.experiments.mixes.{kind}", **settings}


def budget_of(**settings: Any) -> Budget:
    return budget(Run(folder=Path(), config=config_of(**settings), metrics={}, seed=0, written=0.0))


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"ckpt_path": "last.ckpt"},
        {"trainer": {"accelerator": "gpu", "enable_progress_bar": False, "default_root_dir": "/elsewhere"}},
        {"data": {"cache_dir": "/elsewhere", "num_workers": 8, "eval_batch_size": 1000, "folder": "/other/cifar100"}},
        {"teacher": {"checkpoint": "/other/teacher.pth", "progress": False}},
        {"mixing": {"log": False, "probability": None}},
        {"paths": {"output_dir": "/elsewhere"}},
        {"callbacks": {"checkpoint": None}},
        {"mixing": {"save_state": True, "log_images_every": 10}},
        {"matmul_precision": "highest", "milestones": [0.5]},
        {"trainer": {"num_sanity_val_steps": 0}},
        {"teacher": {"channels_last": True, "fold": False, "compile": True}},
        {"num_mixes": 100},
        {"mixes": {}},
    ],
)
def test_what_is_no_part_of_a_training(other: dict[str, Any]) -> None:
    assert training(config_of(**other)) == training(config_of())
    assert budget_of(**other) == budget_of()


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"epochs": 6}, "trainer.max_epochs"),
        ({"trainer": {"precision": "bf16-mixed"}}, "trainer.precision"),
        ({"optimizer": {"lr": 0.1}}, "optimizer.lr"),
        ({"data": {"batch_size": 128}}, "data.batch_size"),
        ({"data": {"fold": 1}}, "data.fold"),
        ({"data": {"data_seed": 1}}, "data.data_seed"),
        ({"mixing": {"mode": "replace"}}, "mixing.mode"),
        ({"teacher": {"checkpoint": "/t/other.pth"}}, "teacher.checkpoint"),
        ({"k": 3, "method": "kd_mixup"}, "mixer.k"),
        ({"callbacks": {"average": {"decay": 0.9}}}, "callbacks.average.decay"),
    ],
)
def test_what_is_part_of_a_training(other: dict[str, Any], name: str) -> None:
    same = {"method": other["method"]} if "method" in other else {}
    assert differences([training(config_of(**same)), training(config_of(**other))]) == [name]


@pytest.mark.parametrize("kind", ["Fixed", "External"])
def test_an_engine_is_no_part_of_a_training_on_images_that_were_made_before(kind: str) -> None:
    stream = {"_target_": "supermix_pl.engine.StreamEngine", "budget": 0.25}
    assert training(config_of(mixes=mixes(kind), engine=stream)) == training(config_of(mixes=mixes(kind)))
    assert "engine.budget" in training(config_of(engine=stream))


def test_numbers_are_equal_however_they_are_written() -> None:
    one, other = (training(config_of(optimizer={"lr": rate, "betas": [rate, 0.5]})) for rate in (1, 1.0))
    assert repr(one) == repr(other)


def test_lists_are_settings_too() -> None:
    milestones = [training(config_of(scheduler={"milestones": values})) for values in ([0.5], [0.5, 0.7], [0.5])]
    assert milestones[0] == milestones[2]
    assert differences(milestones) == ["scheduler.milestones"]


def test_fixed_mixes_are_known_by_what_their_folder_says(tmp_path: Path) -> None:
    for name, size in {"first": 1000, "copy": 1000, "more": 2000}.items():
        (tmp_path / name).mkdir()
        about = {"size": size, "seed": 1}
        (tmp_path / name / "about.json").write_text(json.dumps(about))
    first, copy, more, none = (
        training(config_of(mixes=mixes("Folder", folder=str(tmp_path / folder)) if folder else {}))
        for folder in ("first", "copy", "more", None)
    )
    assert first == copy
    assert differences([first, more]) == ["mixes.size"]
    assert label(more, differences([first, more])) == "mixes.size=2000"
    assert "no mixes.kind" in label(none, differences([first, none]))
    assert "mixes.kind=fixed" in label(first, differences([first, none]))


def test_fixed_mixes_whose_folder_is_gone_are_known_by_its_name() -> None:
    first, other = (training(config_of(mixes=mixes("Folder", folder=folder))) for folder in ("/gone/first", "/x/other"))
    made = training(config_of(mixes=mixes("Fixed", size=500, folder="/gone/first")))
    assert label(first, differences([first, other])) == "mixes.folder=first"
    assert label(made, differences([first, made])) == "no mixes.folder, mixes.size=500"


def test_external_images_are_known_by_their_folder_and_the_control_by_its_flag() -> None:
    first, other = (training(config_of(mixes=mixes("External", folder=folder))) for folder in ("/a/first", "/b/other"))
    assert differences([first, other]) == ["mixes.folder"]
    fixed, control = (training(config_of(mixes=mixes("Fixed", misplaced=flag))) for flag in (False, True))
    assert differences([fixed, control]) == ["mixes.misplaced"]


@given(st.lists(SETTINGS, min_size=1, max_size=4))
def test_labels_tell_apart_exactly_what_differs(settings: list[dict[str, Any]]) -> None:
    names = differences(settings)
    written = [json.dumps([each.get(name) for name in "abc"]) for each in settings]
    assert (names == []) == (len(set(written)) == 1)
    for name in names:
        assert len({json.dumps(each.get(name)) for each in settings}) > 1


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"epochs": 240}, True),
        ({"method": "ce_supermix", "data": {"batch_size": 128, "augment": True}}, True),
        ({"pair": "vgg13-vgg8"}, True),
        ({"data": {"with_indices": True}}, True),
        ({"scale": "gpu"}, False),
        ({"protocol": "equal"}, False),
        ({"data": {"images_per_class": 100}}, False),
        ({"data": {"validation_fraction": 0.1}}, False),
        ({"data": {"folder": "/d/cifar10"}}, False),
        ({"data": {"_target_": "supermix_pl.experiments.data.Shapes", "folder": None, "train_size": 100}}, False),
    ],
)
def test_budgets(other: dict[str, Any], same: bool) -> None:
    assert (budget_of(**other) == budget_of()) == same


def test_what_sets_a_budget_apart_from_the_papers() -> None:
    whole = {"images_per_class": None}
    assert budget_of(scale="paper", data=whole).unlike_paper(["cifar100"]) == []
    assert budget_of(scale="paper", data=whole).unlike_paper(["imagenet"]) == ["data cifar100"]
    assert budget_of().unlike_paper(["cifar100"]) == ["scale cpu", "50 images a class"]
    held_out = budget_of(protocol="equal", scale="paper", data=whole | {"validation_fraction": 0.1})
    assert held_out.unlike_paper(["cifar100"]) == ["protocol equal", "0.1 of the training images held out"]
    nameless = budget_of(protocol=None, scale=None, data=whole)
    assert nameless.unlike_paper(["cifar100"]) == ["no protocol named", "no scale named"]
    assert nameless.title() == "no protocol, no scale, cifar100"
