"""Every config composes, resolves and instantiates; what YAML repeats equals the default in Python."""

import inspect
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from supermix_pl import (
    CutMix,
    FMix,
    MixUp,
    OneOf,
    PuzzleMix,
    ResizeMix,
    SaliencyMix,
    SuperMix,
    SuperMixCallback,
)
from supermix_pl.experiments import few_images, resolvers
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.tasks.schedules import multistep
from supermix_pl.transforms import RandomCropFlip
from tests.composing import compose, compose_anew

CONF = Path(__file__).resolve().parents[2] / "conf"
ELSEWHERE = ("__pycache__", "network", "pair", "bench")  # test_cells and bench/test_program take these
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in ELSEWHERE)
OPTIONS = [
    (group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml")) if path.stem != "base"
] + [("network", "timm")]
REQUIRED = {
    ("data", "parquet"): ["data.folder=shards"],
    ("data", "huggingface"): ["data.name=owner/images"],
    ("network", "timm"): ["network.name=test_resnet"],
    ("data", "image_folder"): ["data.folder=images"],
    ("mixes", "folder"): ["mixes.folder=mixes"],
    ("teacher", "checkpoint"): ["teacher.checkpoint=teacher.pth"],
    ("protocol", "table1"): ["pair=wrn_40_2-wrn_40_2"],
    ("protocol", "imagenet"): ["pair=resnet34-resnet18"],
    ("experiment", "distillation"): ["teacher.checkpoint=teacher.pth"],
    ("experiment", "study"): ["data.folder=shards", "teacher.checkpoint=teacher.pth"],
    ("experiment", "few_images"): ["data.folder=shards", "teacher.checkpoint=teacher.pth"],
}
ALONE = ("experiment", "hparams_search", "method", "protocol", "scale")  # they choose options of other groups
TOGETHER = [[each] for each in OPTIONS if each[0] in ALONE] + [
    [each for each in one_of_each if each is not None]
    for one_of_each in itertools.zip_longest(
        *([each for each in OPTIONS if each[0] == group] for group in (*GROUPS, "network") if group not in ALONE)
    )
]
resolvers.register()
PATHS = ["paths.root_dir=root", "paths.output_dir=output"]


def required(options: Iterable[tuple[str, str]]) -> list[str]:
    return [value for option in options for value in REQUIRED.get(option, [])]


def composed(*overrides: str) -> DictConfig:
    return compose("train", [*PATHS, *overrides])


@pytest.mark.parametrize(
    "options",
    # test_checks and test_labels take every method in `make test` too
    [pytest.param(each, marks=[pytest.mark.slow] * (each[0][0] == "method")) for each in TOGETHER],
    ids=lambda options: "-".join(option for _, option in options),
)
def test_every_option_is_complete_and_its_targets_exist_and_take_every_key(options: list[tuple[str, str]]) -> None:
    config = composed(*(f"{group}={option}" for group, option in options), *required(options))
    OmegaConf.resolve(config)
    assert not OmegaConf.missing_keys(config)
    for node in _targets(config):
        parameters = inspect.signature(get_object(node._target_)).parameters
        takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        unknown = {key for key in node if not str(key).startswith("_")} - set(parameters)
        assert takes_any or not unknown, f"{node._target_} does not take {unknown}"


@pytest.mark.parametrize("group", ["data", "mixer", "mixes", "scheduler", "task", "teacher", "engine"])
def test_values_repeated_for_the_command_line_are_the_defaults_in_python(group: str) -> None:
    for option in [option for of, option in OPTIONS if of == group]:
        different = {"train_size", "test_size", "seed"} if group == "data" else set()
        if option in ("auto", "stream"):
            different.add("default_transform")  # mixing.mixed_transform says it
        if option == "supermix_fast":
            continue  # it is compared with SuperMix.fast
        if option == "fitted_again":
            different.add("seed")
        if option == "misplaced":
            different.add("misplaced")
        if option == "matching":
            different |= {"matched", "classified", "average"}
        if option.startswith("imagenet"):  # the paper's
            different |= {"batch_size", "eval_batch_size", "resize_ratio"}
        node = OmegaConf.to_container(composed(f"{group}={option}", *REQUIRED.get((group, option), []))[group])
        assert isinstance(node, dict)
        target = "supermix_pl.engine.StreamEngine" if option == "auto" else node.get("_target_")
        parameters = inspect.signature(get_object(target)).parameters if target else {}
        for name, parameter in parameters.items():
            value = node.get(name, parameter.default)
            interpolated = isinstance(value, str) and "${" in value
            if parameter.default is inspect.Parameter.empty or name in different or interpolated:
                continue
            if isinstance(value, dict) and get_object(value["_target_"]) is parameter.default:
                inner = inspect.signature(parameter.default).parameters
                assert all(value[key] == inner[key].default for key in value if key[0] != "_" and key != "seed")
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
    own = {"_target_", "mixed_transform", "seed", "log", "save_state"}  # a run that was stopped goes on
    assert {name: parameters[str(name)].default for name in node if name not in own} == {
        name: value for name, value in node.items() if name not in own
    }


def test_milestones_without_a_protocol_are_the_default_in_python() -> None:
    assert composed("scheduler=multistep").scheduler.milestones == list(
        inspect.signature(multistep).parameters["milestones"].default
    )


ON_ALL = ("mixup", "cutmix", "half", "supermix")
FIXED = ("mixup", "cutmix", "supermix", "supermix_exact", "misplaced")


@pytest.mark.parametrize(
    "name", [*(f"kd_all_{mixer}" for mixer in ON_ALL), *(f"kd_all_{mixer}_fixed" for mixer in FIXED)]
)
def test_methods_that_match_the_teacher_on_all_rows_have_one_loss(name: str) -> None:
    natural, randaugment, mixed = (composed(f"method={method}") for method in ("kd_natural", "kd_randaugment", name))
    assert mixed.task == natural.task == randaugment.task
    assert (mixed.task.ce_weight, mixed.task.kd_weight, mixed.task.temperature) == (0.1, 0.9, 4.0)
    assert (mixed.task.matched, mixed.task.classified, mixed.task.average) == ("all", "natural", "rows")
    assert not mixed.task.separate_forwards
    assert (mixed.method.kind, natural.method.kind) == ("extended", "natural")
    assert bool(mixed.mixes) == name.endswith("_fixed")
    assert mixed.mixes.get("misplaced", False) == ("misplaced" in name)


def test_mixes_that_are_compared_differ_by_what_their_names_say() -> None:
    mixer = {name: instantiate(composed(f"method={name}").mixer) for name in METHODS_OF_MIXES}
    fast = SuperMix.fast()
    recommended = ("kd_all_supermix", "kd_all_supermix_fixed", "kd_all_misplaced_fixed")
    assert all(mixer[name] == fast for name in (*recommended, "callback_supermix", "default_supermix"))
    assert mixer["kd_all_supermix_exact_fixed"] == SuperMix.fast(views=None)
    assert mixer["kd_all_mixup"] == mixer["kd_all_mixup_fixed"] == MixUp()
    assert mixer["kd_all_cutmix"] == mixer["kd_all_cutmix_fixed"] == CutMix()
    assert mixer["kd_all_half"] == OneOf([MixUp(), CutMix()])


METHODS_OF_MIXES = [
    *(f"kd_all_{name}" for name in ON_ALL),
    *(f"kd_all_{name}_fixed" for name in FIXED),
    *("callback_supermix", "default_supermix"),
]


@pytest.mark.parametrize(
    "name", [f"{loss}_{mixer}" for loss in ("ce", "kd") for mixer in ("mixup", "cutmix", "supermix")]
)
def test_the_papers_rows_keep_their_meaning(name: str) -> None:
    config = composed(f"method={name}")
    mixers = {"mixup": MixUp(alpha=3.0), "cutmix": CutMix(alpha=3.0), "supermix": SuperMix()}
    assert instantiate(config.mixer) == mixers[name[3:]]
    weights = {"ce": (2.0, None), "kd": (1.8, 0.2)}[name[:2]]
    assert (config.task.ce_weight, config.task.get("kd_weight")) == weights
    assert (bool(config.mixes), config.task.separate_forwards, config.task.average) == (True, True, "kinds")
    assert config.task.get("matched", "natural") == "natural"


def test_the_defaults_of_the_callback_are_a_method() -> None:
    config = composed("method=default_supermix")
    own = {"_target_", "mixed_transform", "seed", "log", "save_state"}  # a run that was stopped goes on
    parameters = inspect.signature(SuperMixCallback).parameters
    assert all(config.mixing[name] == parameters[name].default for name in config.mixing if name not in own)
    assert (config.task._target_.rpartition(".")[2], config.task.average) == ("Classification", "rows")


def test_distillation_by_the_callback_alone_is_a_method() -> None:
    config = composed("method=callback_supermix")
    assert (config.mixing.targets, config.mixing.natural_targets) == ("teacher_soft", "teacher")
    assert (config.task._target_.rpartition(".")[2], config.task.average) == ("Classification", "rows")


def test_the_recommendation_is_the_quickstart() -> None:
    config = composed("experiment=quickstart")
    assert instantiate(config.mixer) == SuperMix.fast() == SuperMixCallback("ema").mixer
    engines = instantiate(config.engine)(SuperMix.fast()), instantiate(composed("engine=stream").engine)
    first, second = (vars(engine) | {"_settings": vars(engine._settings)} for engine in engines)
    assert first == second
    assert config.mixing.mode == "extend"


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("k=3", {"k": 3}),
        ("alpha=1", {"alpha": 1}),
        ("lambda_s=30", {"lambda_s": 30}),
        ("sigma=1", {"sigma": 1}),
        ("mask_size=[8,4]", {"mask_size": (8, 4)}),
        ("max_steps=6", {"max_steps": 6}),
        ("views=null", {"views": None}),
        ("pairing=random", {"pairing": "random"}),
        (
            "views={_target_: supermix_pl.transforms.RandomCropFlip, padding: 4}",
            {"views": RandomCropFlip(padding=4)},
        ),
    ],
)
def test_the_recommended_mixer_takes_what_the_command_line_says(override: str, changes: dict[str, Any]) -> None:
    config = composed("mixer=supermix_fast", f"mixer.{override}", "pair=resnet34-resnet18")
    assert instantiate(config.mixer) == SuperMix.fast(**changes)  # and nothing from the pair


def test_without_a_choice_there_is_no_mixer_and_the_engine_goes_by_it() -> None:
    config = composed()
    assert not config.mixer
    assert config.engine._target_.endswith("engine_for")
    assert {**config.engine, "_target_": ""} == {**composed("engine=stream").engine, "_target_": "", "_partial_": True}


@pytest.mark.parametrize(
    ("pair", "k", "size"), [("wrn_40_2-wrn_40_2", 2, 500_000), ("resnet50-resnet50", 3, 1_000_000)]
)
def test_table_1_has_the_papers_mixes(pair: str, k: int, size: int) -> None:
    given = ["experiment=table1", f"pair={pair}"]
    for method in ("ce_supermix", "ce_supermix_randaugment"):
        config = composed(*given, f"method={method}")
        assert (config.mixer.k, config.mixes.size, config.task.ce_weight) == (k, size, 0.5)
    assert composed(*given, "method=ce_mixup").mixes.size == size
    assert composed(*given, "mixer.k=4", "num_mixes=9").mixer.k == 4
    assert composed(*given, "scale=smoke").mixes.size == 8


def test_two_steps_may_be_of_other_data() -> None:
    own = composed("scale=smoke", "data=image_folder", "data.folder=x")
    assert own.data.keys().isdisjoint(("train_size", "test_size"))
    assert composed("scale=smoke").data.train_size == 24


@pytest.mark.parametrize(("images", "budget"), [("of_50", (50, 5000)), ("of_10", (10, 1000)), ("all", (None, 5000))])
def test_the_study_has_a_budget_for_each_number_of_images(images: str, budget: tuple[int | None, int]) -> None:
    config = composed("experiment=study", "data.folder=shards", "teacher.checkpoint=t.pth", f"study.images={images}")
    assert (config.data.images_per_class, config.num_mixes) == budget
    assert config.trainer.max_epochs == {"of_50": 6, "of_10": 30, "all": 1}[images]


def test_few_images_have_the_protocol_of_the_study() -> None:
    given = ["experiment=few_images", "data.folder=shards", "teacher.checkpoint=teacher.pth", "seed=3"]
    assert set(few_images.ARMS.values()) <= {path.stem for path in (CONF / "method").glob("*.yaml")}
    for arm, method in few_images.ARMS.items():
        config = composed(*given, f"method={method}", "data.images_per_class=25")
        OmegaConf.resolve(config)
        natural = arm in ("kd", "kd_randaugment", "plain")
        data, optimizer = config.data, config.optimizer
        assert (data.images_per_class, data.data_seed, data.seed, data.epoch_batches) == (25, None, 3, 3125)
        assert data.batch_size * (1 if natural else 2) == 128
        assert (optimizer.lr, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.1, 0.9, True, 5e-4)
        assert (config.scheduler._target_.rpartition(".")[2], config.scheduler.warmup) == ("cosine", 0.03)
        assert (config.trainer.max_epochs, config.trainer.val_check_interval) == (1, 0.5)
        assert config.network._target_.endswith("resnet20")
        assert config.channels_last
        assert (config.data.augment is True) == (arm != "kd_randaugment")
        assert instantiate(config.mixing.mixed_transform) == RandomCropFlip()
        assert config.num_mixes == 20_000
        distils = arm not in ("plain", "default", "supermix_callback", "callback_distils")
        assert config.task._target_.endswith("Distillation") == distils
        assert config.mixing.distillation_weight == (0.9 if arm == "callback_distils" else 0)
        if distils:
            assert (config.task.classified, config.task.average) == ("natural", "rows")
    augment = composed(*given, "method=kd_randaugment").data.augment
    assert (augment.policy.num_ops, augment.policy.magnitude, augment.crop_flip.padding, augment.cutout) == (
        2,
        14,
        4,
        0,
    )


@pytest.mark.parametrize(
    ("given", "temperature"), [((), 2), (("protocol.temperature=3",), 3), (("task=distillation",), 4)]
)
def test_the_protocol_of_the_demo_has_the_temperature_of_matching(given: tuple[str, ...], temperature: float) -> None:
    assert composed("experiment=demo", *given).task.temperature == temperature


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(ConfigCompositionException, match="lambda"):
        compose_anew("train", ["mixer=supermix", "mixer.lambda=3"])


def test_an_unknown_choice_lists_those_that_exist() -> None:
    with pytest.raises(Exception, match="supermix"):
        composed("mixer=superb")


def test_the_mixer_takes_what_the_command_line_says() -> None:
    config = composed("mixer=supermix", "mixer.k=3", "mixer.alpha=1", "mixer.lambda_s=0", "mixer.mask_size=[4,6]")
    assert instantiate(config.mixer) == SuperMix(k=3, alpha=1, lambda_s=0, mask_size=(4, 6))


@pytest.mark.parametrize("kind", [MixUp, CutMix, FMix, ResizeMix, SaliencyMix, PuzzleMix])
def test_mixers_are_by_the_defaults_in_python(kind: type) -> None:
    assert instantiate(composed(f"mixer={kind.__name__.lower()}").mixer) == kind()


def _targets(node: Any) -> Iterator[DictConfig]:
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node
        for key in node:
            if not OmegaConf.is_interpolation(node, str(key)) and not OmegaConf.is_missing(node, str(key)):
                yield from _targets(node[key])
