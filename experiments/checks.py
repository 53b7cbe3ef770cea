"""What can be said of a config before any time is spent: everything that needs neither data nor a teacher."""

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, Unpack, get_args, get_origin, get_type_hints

import torch
from beartype import BeartypeConf
from beartype.door import is_bearable
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from lightning_fabric.utilities.cloud_io import get_filesystem
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError
from torch import nn

from supermix_pl.arguments import check_at_least, check_not_negative, check_one_of
from supermix_pl.engine import BatchEngine
from supermix_pl.experiments import building
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.mixes import External, Fixed
from supermix_pl.experiments.shared.files import FULL
from supermix_pl.experiments.tasks import Classification
from supermix_pl.experiments.tasks.distillation import check_both_have_features
from supermix_pl.experiments.teachers import checked_path, is_average

_STEPS_TO_TRY = 1_000_000  # more than any warm-up has
_NAMED = ("engine.sources",)  # the config names what is handed over
_TEACHERS = "choose teacher=fitted, or teacher=checkpoint teacher.checkpoint=FILE"
_NUMBERS = BeartypeConf(is_pep484_tower=True)  # an int will do for a float


class SettingsError(ValueError):
    """What was asked for cannot be done; the message says what was expected, what came, and what to do."""


@contextmanager
def named_errors() -> Iterator[None]:
    """Turn errors of settings, files and folders into a `SettingsError`; a full disk stays what it is."""
    try:
        yield
    except SettingsError:
        raise
    except InstantiationException as error:
        raise SettingsError(str(error.__cause__ or error)) from error
    except (ValueError, TypeError, OSError, MisconfigurationException) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise SettingsError(str(error)) from error


@contextmanager
def ending_in_a_line(program: str) -> Iterator[None]:
    """End a program in one line where it cannot do what was asked for, or the disk is full; not the jobs of a sweep."""
    try:
        yield
    except SettingsError as error:
        if os.environ.get("HYDRA_FULL_ERROR", "0") != "0":  # Hydra's own switch
            raise
        if in_sweep():
            raise error from None  # Hydra shows where it was raised
        sys.exit(f"{program}: error: {error}")
    except OSError as error:
        if in_sweep() or error.errno not in FULL:
            raise
        room = f"expected room on the disk, got: {error}; make some, and give the same command again: it goes on"
        sys.exit(f"{program}: error: {room}")


def in_sweep() -> bool:
    """Return whether this is a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def check_settings(config: DictConfig) -> None:
    """Refuse, before any time is spent, a config that lacks something, or has what nothing takes.

    Raises:
        ValueError: If values that have to be given are not, a value is of another kind than what takes it asks for or
            out of its range, or the optimiser or the schedule has no such setting.
    """
    check_at_least("seed", config.seed, 0)
    check_not_negative("restart.minutes", config.restart.minutes)
    if config.ckpt_path is not None and not get_filesystem(config.ckpt_path).exists(config.ckpt_path):
        raise ValueError(f"expected a checkpoint in ckpt_path, got no such file as {config.ckpt_path}: correct it")
    _check_budget(config)
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ValueError(
            f"expected values for {', '.join(missing)}, got none; give them, for instance {missing[0]}=..."
        )
    check_one_of("matmul_precision", config.matmul_precision, ("highest", "high", "medium"))
    if config.engine.get("sources") is not None:
        check_one_of("engine.sources", config.engine.sources, ("training",))
    if config.trainer.limit_test_batches == 0:
        raise ValueError("expected trainer.limit_test_batches above 0, got 0: results are those of the test images")
    _check_cache(config)
    _check_weights(config)
    _check_names(config)
    _check_mixing(config)
    check_kinds(config)
    _check_optimisation(config)


def check_tested(config: DictConfig, datamodule: ImageDataModule) -> None:
    """Refuse, before any time is spent, data without test images, or a share of them that Lightning takes for none.

    Raises:
        ValueError: If nothing would be tested after the training.
    """
    share, batches = config.trainer.limit_test_batches, len(datamodule.test_dataloader())
    if isinstance(share, float) and share * batches < 1:
        raise ValueError(
            f"expected trainer.limit_test_batches to leave one of {batches} test batches, got {share}: give a number "
            "of batches, or lower data.eval_batch_size"
        )


def check_choices(config: DictConfig) -> None:
    """Refuse, before any time is spent, choices that do not go together.

    Raises:
        ValueError: If task, mixer, mixes, engine or teacher ask for others than stand beside them, or there is no file
            with the teacher's weights.
    """
    task = get_object(config.task._target_)
    if isinstance(task, type) and not issubclass(task, Classification):
        raise ValueError(
            "expected a task of a subclass of supermix_pl.experiments.tasks.Classification, got "
            f"{config.task._target_}: make it one, or give the callback to a Trainer of your own"
        )
    mixes = config.mixes and get_object(config.mixes._target_)
    if building.is_contrastive(config) and (config.mixer or mixes):
        raise ValueError(
            "expected natural images alone for task=contrastive, got mixes or others beside them, which are no "
            "training samples: choose mixer=none mixes=none"
        )
    if (building.is_contrastive(config) or config.task.get("features")) and config.compile:
        raise ValueError(
            "expected compile=false for task=contrastive and task.features, which take the network apart for its "
            "features, got compile=true: teacher.compile=true compiles the teacher alone"
        )
    if building.learns_from_teacher(config) and not building.has_teacher(config):
        raise ValueError(f"expected a teacher for {config.task._target_}, got teacher=none: {_TEACHERS}")
    if building.learns_from_teacher(config) and config.mixing.distillation_weight:
        raise ValueError(
            "expected mixing.distillation_weight=0 for a task with a distillation loss of its own, got "
            f"{config.mixing.distillation_weight:g}: choose one of the two"
        )
    if mixes and not building.has_teacher(config):
        raise ValueError(
            f"expected a teacher to label the images of mixes={mixes.__name__.lower()}, got teacher=none: {_TEACHERS}"
        )
    if (mixes or building.learns_from_teacher(config)) and is_average(config.teacher):
        raise ValueError(
            "expected a trained teacher for mixes that are made before, external images, distillation and CRD, got "
            "teacher=ema, which supervises mixes that are made on the fly: choose another teacher, or "
            "task=classification mixes=none"
        )
    if mixes is External and config.mixer:
        raise ValueError(
            "expected mixer=none with mixes=external, whose images take the place of mixes, got "
            f"{config.mixer._target_}"
        )
    if mixes is Fixed and not config.mixer:
        raise ValueError(
            "expected a mixer to make the mixes of mixes=fixed, got mixer=none: choose one, or "
            "mixes=folder mixes.folder=FOLDER for those of supermix-generate"
        )
    if mixes and get_object(config.engine._target_) not in (BatchEngine, building.engine_for):
        raise ValueError(
            f"expected engine=auto or batch with mixes={mixes.__name__.lower()}, whose images are made before, got "
            f"{config.engine._target_}; to mix on the fly give mixes=none and a mixer"
        )
    if not building.needs_teacher(config):
        return
    check_both_have_features(config.task.get("features"), config.teacher.get("features"))
    averaged = config.teacher.get("teachers", {})
    for node in (config.teacher, *averaged.values()):
        if "checkpoint" in node:
            checked_path(node.checkpoint)
    for name, node in averaged.items():
        if is_average(node):
            raise ValueError(
                f"expected trained teachers to average, got ema as teacher.teachers.{name}: choose another"
            )
        for setting in ("compile", "features"):
            if node.get(setting):
                raise ValueError(
                    f"expected no {setting} of teachers that are averaged, got teacher.teachers.{name}.{setting}="
                    f"{node[setting]}: leave it out, or choose one teacher"
                )


def _check_cache(config: DictConfig) -> None:
    folder = Path(config.paths.cache_dir).expanduser().absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir() or (there != folder and not os.access(there, os.W_OK)):  # a full one may be read-only
        raise ValueError(
            f"expected paths.cache_dir to be a folder that is there or can be made, got {folder}, and {there} takes no "
            "folder; choose another by paths.cache_dir=FOLDER"
        )


def check_kinds(config: DictConfig) -> None:
    """Hold every number, flag and text against the annotation of what takes it."""
    for place, node in _targets(config, ""):
        hints = _hints(node._target_)
        for name, value in node.items():
            if name not in hints or not isinstance(value, str | int | float | bool) or f"{place}{name}" in _NAMED:
                continue
            if not is_bearable(value, hints[name], conf=_NUMBERS):
                raise ValueError(f"expected {place}{name} as {_in_words(hints[name])}, got {value!r}")


def _check_names(config: DictConfig) -> None:
    """Refuse settings under names that what is chosen does not take."""
    found, remedies = [], []
    for place, node in _targets(config, ""):
        taken = _taken(node._target_)
        unknown = [f"{place}{name}" for name in node if not str(name).startswith("_") and str(name) not in taken]
        if taken and unknown:
            found.append(f"{', '.join(unknown)}, which {node._target_} does not take")
            remedies += [f"~{name}" for name in unknown]
    if found:
        raise ValueError(
            f"expected settings of what is chosen, got {'; '.join(found)}: correct what is misspelt, and take off with "
            f"{' '.join(remedies)} what an experiment, a scale or a protocol has set for another choice"
        )


def _taken(target: str) -> set[str]:
    """Return the names of all arguments of a target; none where it may take any."""
    try:
        takes = get_object(target)
        parameters = inspect.signature(takes).parameters.values()
    except Exception:  # what cannot be imported is said where it is built
        return set()
    names = {each.name for each in parameters}
    if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return names
    hints = _hints(target)
    return names | set(hints) if any(get_origin(hint) is Unpack for hint in hints.values()) else set()


def _targets(node: Any, place: str) -> Iterator[tuple[str, DictConfig]]:
    """Find the nodes that are built, with their place on the command line."""
    if not isinstance(node, DictConfig):
        return
    if "_target_" in node:
        yield place, node
    for name in node:
        if not OmegaConf.is_missing(node, name):
            yield from _targets(node[name], f"{place}{name}.")


def _hints(target: str) -> dict[str, Any]:
    """Return what a target annotates its arguments with; nothing where that cannot be told."""
    try:
        takes = get_object(target)
        if not inspect.isclass(takes):
            hints = get_type_hints(takes)
            for handed_on in [hint for hint in hints.values() if get_origin(hint) is Unpack]:
                hints |= get_type_hints(get_args(handed_on)[0])
            return hints
        hints = {}
        for base in takes.__mro__:  # as far as arguments are handed on
            hints = get_type_hints(base.__init__) | hints
            kinds = [each.kind for each in inspect.signature(base.__init__).parameters.values()]
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                break
        return hints
    except Exception:  # annotations may name what only a type checker imports
        return {}


def _in_words(hint: Any) -> str:
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
    return " or ".join(words.get(each, str(each).replace("typing.", "")) for each in choices)


def _check_mixing(config: DictConfig) -> None:
    """Build mixer, engine and callback with no teacher but a promise of one."""
    try:
        mixer = building.build_mixer(config)
        if mixer is None:
            return
        engine = building.build_engine(config, mixer, None)
        teacher = "ema" if building.has_teacher(config) else None
        if teacher is None:
            mixer = mixer.with_classes(2)
        building.build(config.mixing, teacher=teacher, mixer=mixer, engine=engine)
    except InstantiationException as error:
        raise ValueError(str(error.__cause__ or error)) from error


def _check_budget(config: DictConfig) -> None:
    """Ask for a pair where the protocol leaves its numbers to one."""
    try:
        _ = config.data.batch_size, config.trainer.max_epochs
        OmegaConf.to_container(config.optimizer, resolve=True)
    except InterpolationKeyError as error:
        raise ValueError(
            f"expected a value for {error.full_key}, which this protocol leaves to the pair, got none ({error.msg}); "
            "choose pair=, or another protocol"
        ) from error


def _check_weights(config: DictConfig) -> None:
    """Refuse a protocol's weight of the cross-entropy in a task that has another loss beside it."""
    if "kd_weight" in config.task and OmegaConf.is_interpolation(config.task, "ce_weight"):
        raise ValueError(
            f"expected task=classification under protocol=table1, whose task.ce_weight={config.task.ce_weight} is of "
            f"the cross-entropy alone, got {config.task._target_} with task.kd_weight={config.task.kd_weight}: choose "
            "another protocol, or give both weights, for instance task.ce_weight=1.8 task.kd_weight=0.2"
        )


def _check_optimisation(config: DictConfig) -> None:
    """Try optimiser and schedule on a weight of no use, before hours are spent on mixes."""
    part = "optimizer"
    try:
        optimizer = instantiate(config.optimizer)([nn.Parameter(torch.zeros(1))])
        part = "scheduler"
        if config.get(part):
            instantiate(config.scheduler)(optimizer, total_steps=_STEPS_TO_TRY)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected settings that {config[part]._target_} takes for {part}, got: {error}; correct {part}.NAME"
        ) from error
