"""Every config composes, resolves and instantiates; what YAML repeats equals the default in Python."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import ConfigCompositionException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from supermix_pl import SuperMix, SuperMixCallback
from supermix_pl.experiments import resolvers
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.data.datamodule import named_arguments
from supermix_pl.experiments.tasks.schedules import multistep

CONF = Path(__file__).resolve().parents[2] / "conf"
ELSEWHERE = ("__pycache__", "network", "pair")  # test_cells takes all of these
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in ELSEWHERE)
OPTIONS = [
    (group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml")) if path.stem != "base"
] + [("network", "timm")]
REQUIRED = {
    ("data", "parquet"): ["data.folder=shards"],
    ("network", "timm"): ["network.name=test_resnet"],
    ("data", "image_folder"): ["data.folder=images"],
    ("teacher", "checkpoint"): ["teacher.checkpoint=teacher.pth"],
    ("protocol", "table1"): ["pair=wrn_40_2-wrn_40_2"],
    ("protocol", "imagenet"): ["pair=resnet34-resnet18"],
    ("experiment", "distillation"): ["teacher.checkpoint=teacher.pth"],
    ("experiment", "study"): ["data.folder=shards", "teacher.checkpoint=teacher.pth"],
}
resolvers.register()
PATHS = ["paths.root_dir=root", "paths.output_dir=output"]


@pytest.fixture(autouse=True)
def configs() -> Iterator[None]:
    with initialize_config_module("supermix_pl.conf", version_base="1.3"):
        yield


def composed(*overrides: str) -> DictConfig:
    return compose("train", [*PATHS, *overrides])


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda part: part)
def test_every_option_is_complete_and_its_targets_exist_and_take_every_key(group: str, option: str) -> None:
    config = composed(f"{group}={option}", *REQUIRED.get((group, option), []))
    OmegaConf.resolve(config)
    assert not OmegaConf.missing_keys(config)
    for node in _targets(config):
        parameters = _parameters(get_object(node._target_))
        takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        unknown = {key for key in node if not str(key).startswith("_")} - set(parameters)
        assert takes_any or not unknown, f"{node._target_} does not take {unknown}"


@pytest.mark.parametrize("group", ["data", "mixer", "scheduler", "task", "teacher", "engine"])
def test_values_repeated_for_the_command_line_are_the_defaults_in_python(group: str) -> None:
    for option in [option for of, option in OPTIONS if of == group]:
        different = {"train_size", "test_size", "seed"} if group == "data" else set()
        if option.startswith("imagenet"):  # the paper's
            different |= {"batch_size", "eval_batch_size", "resize_ratio"}
        node = OmegaConf.to_container(composed(f"{group}={option}", *REQUIRED.get((group, option), []))[group])
        assert isinstance(node, dict)
        parameters = _parameters(get_object(node["_target_"])) if node else {}
        for name, parameter in parameters.items():
            value = node.get(name, parameter.default)
            interpolated = isinstance(value, str) and "${" in value
            if parameter.default is inspect.Parameter.empty or name in different or interpolated:
                continue
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            assert value == (pytest.approx(default) if isinstance(default, float) else default), f"{option}: {name}"


def test_values_that_all_data_share_are_the_defaults_in_python() -> None:
    base = OmegaConf.to_container(composed().data)
    shared = inspect.signature(ImageDataModule).parameters
    assert isinstance(base, dict)
    assert {name: shared[name].default for name in shared if name in base and name != "seed"} == {
        name: base[name] for name in shared if name in base and name != "seed"
    }
    assert "batch_size" in base


def test_how_mixes_enter_the_batch_is_by_the_defaults_in_python() -> None:
    node = OmegaConf.to_container(composed().mixing)
    assert isinstance(node, dict)
    parameters = inspect.signature(SuperMixCallback).parameters
    own = {"_target_", "mixed_transform", "seed", "log"}
    assert {name: parameters[str(name)].default for name in node if name not in own} == {
        name: value for name, value in node.items() if name not in own
    }


def test_milestones_without_a_protocol_are_the_default_in_python() -> None:
    assert composed("scheduler=multistep").scheduler.milestones == list(
        inspect.signature(multistep).parameters["milestones"].default
    )


@pytest.mark.parametrize("mixer", ["mixup", "cutmix", "supermix"])
def test_kd_on_the_mixes_has_the_losses_of_plain_kd(mixer: str) -> None:
    plain, paper, mixed = (composed(f"method={name}") for name in ("kd", f"kd_{mixer}", f"kd_all_{mixer}"))
    assert mixed.task == {**plain.task, "matched": "all", "separate_forwards": True}
    assert (mixed.mixer, mixed.data) == (paper.mixer, paper.data)


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(ConfigCompositionException, match="lambda"):
        composed("mixer=supermix", "mixer.lambda=3")


def test_an_unknown_choice_lists_those_that_exist() -> None:
    with pytest.raises(Exception, match="supermix"):
        composed("mixer=superb")


def test_the_mixer_takes_what_the_command_line_says() -> None:
    config = composed("mixer=supermix", "mixer.k=3", "mixer.alpha=1", "mixer.lambda_s=0", "mixer.mask_size=[4,6]")
    assert instantiate(config.mixer) == SuperMix(k=3, alpha=1, lambda_s=0, mask_size=(4, 6))


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    if inspect.isclass(target) and issubclass(target, ImageDataModule):
        return named_arguments(target)
    return inspect.signature(target).parameters


def _targets(node: Any) -> Iterator[DictConfig]:
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node
        for key in node:
            if not OmegaConf.is_interpolation(node, str(key)) and not OmegaConf.is_missing(node, str(key)):
                yield from _targets(node[key])
