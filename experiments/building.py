"""From configs to objects: what needs more than Hydra's `instantiate`."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class, get_object, instantiate
from omegaconf import DictConfig
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MovingAverage, SuperMixCallback
from supermix_pl.engine import BatchEngine, Engine, StreamEngine, count_mixes
from supermix_pl.experiments import resolvers
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.mixes import Beside, ReplayEngine, Setting
from supermix_pl.experiments.networks.classifier import compile_in_place
from supermix_pl.experiments.tasks import Classification, ContrastiveDistillation, Distillation
from supermix_pl.experiments.teachers import is_average
from supermix_pl.mixing import FunctionMixer, Mixer
from supermix_pl.mixing.views import Transform

resolvers.register()  # here, not in the commands: a launcher's processes import this module


def build(node: DictConfig, **objects: Any) -> Any:
    """Build a node from its arguments and from finished objects, which Hydra would take apart as configs."""
    return instantiate(node, _partial_=True)(**objects)


def instantiate_all(group: DictConfig | None) -> list[Any]:
    """Build the members of a group of callbacks or loggers."""
    return [instantiate(member) for member in (group or {}).values() if member is not None]


def build_data(config: DictConfig) -> ImageDataModule:
    """Build the data, and set them up.

    Raises:
        TypeError: If they are no data module of ours, nor of a subclass.
    """
    datamodule = instantiate(config.data)
    if not isinstance(datamodule, ImageDataModule):
        raise TypeError(
            "expected data of a subclass of supermix_pl.experiments.data.ImageDataModule, got "
            f"{config.data._target_}: make it one, or give the callback to a Trainer of your own"
        )
    datamodule.prepare_data()
    datamodule.setup("fit")
    return datamodule


def build_mixes(config: DictConfig, datamodule: ImageDataModule) -> Beside | None:
    """Build what gives the rows beside the natural ones, if they are not mixed on the fly.

    Raises:
        ValueError: If they do not fit the data or the mixer.
    """
    if not config.mixes:
        return None
    setting = Setting(
        data=datamodule,
        mixer=build_mixer(config),
        view=_build_view(config, datamodule),
        cache_dir=Path(config.paths.cache_dir),
    )
    return build(config.mixes, setting=setting)


def build_teacher(config: DictConfig, datamodule: ImageDataModule) -> FrozenTeacher | MovingAverage | None:
    """Build the teacher, if one is chosen and something asks for it, on the device to work on."""
    if not needs_teacher(config):
        return None
    if is_average(config.teacher):
        return instantiate(config.teacher)
    teacher: FrozenTeacher = build(config.teacher, datamodule=datamodule)
    return teacher.to("cuda" if works_on_gpu(config) else "cpu")


def works_on_gpu(config: DictConfig) -> bool:
    """Return whether the trainer's accelerator is a GPU, and there is one."""
    return torch.cuda.is_available() and config.trainer.accelerator in ("auto", "gpu", "cuda")


def build_network(config: DictConfig, datamodule: ImageDataModule) -> nn.Module:
    """Build the network to train, with new weights."""
    return instantiate(config.network, num_classes=datamodule.num_classes)


def build_task(
    config: DictConfig, teacher: FrozenTeacher | MovingAverage | None, datamodule: ImageDataModule
) -> Classification:
    """Build the module to train."""
    network = build_network(config, datamodule)
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if config.compile:
        compile_in_place(network, on_gpu=works_on_gpu(config))
    parts: dict[str, Any] = {
        "network": network,
        "num_classes": datamodule.num_classes,
        "optimizer": instantiate(config.optimizer),
        "scheduler": instantiate(config.scheduler),
    }
    if learns_from_teacher(config):
        parts["teacher"] = teacher
    if isinstance(teacher, FrozenTeacher):
        parts["reference"] = teacher
    if is_contrastive(config):
        parts["train_labels"] = datamodule.train_labels
    return build(config.task, **parts)


def build_mixing(
    config: DictConfig, teacher: FrozenTeacher | MovingAverage | None, datamodule: ImageDataModule, mixes: Beside | None
) -> SuperMixCallback | None:
    """Build the callback that mixes, if a mixer is chosen, or rows that were made before, which are made if need be.

    A mixer without a teacher learns the classes from the data. For distillation the callback has the teacher label
    every row. The global generators stay as they are.
    """
    mixer = build_mixer(config)
    if mixer is None and mixes is None:
        return None
    if mixer is not None and teacher is None:
        mixer = mixer.with_classes(datamodule.num_classes)
    with isolate_rng():
        if mixes is not None:
            assert isinstance(teacher, FrozenTeacher)  # the settings are checked
            size = count_mixes(config.mixing.mix_ratio, datamodule.batch_size)
            normalisation = datamodule.opened.normalisation
            engine: Engine = ReplayEngine(mixes.open(teacher), normalisation=normalisation, batch_size=size)
        else:
            assert mixer is not None
            sources = datamodule.training_images() if config.engine.get("sources") else None
            engine = build_engine(config, mixer, sources)
    objects: dict[str, Any] = {"teacher": teacher, "mixed_transform": _build_view(config, datamodule), "engine": engine}
    if mixer is not None:
        objects["mixer"] = mixer
    if issubclass(get_class(config.task._target_), Distillation) and teacher is not None:
        objects["label_natural"] = True
    return build(config.mixing, **objects)


def build_mixer(config: DictConfig) -> Mixer | None:
    """Build the mixer, if one is chosen.

    Raises:
        ValueError: If there are settings of a mixer, and none is chosen.
    """
    if not config.mixer:
        return None
    if "_target_" not in config.mixer:
        given = ", ".join(f"mixer.{name}" for name in config.mixer)
        raise ValueError(f"expected a mixer that takes {given}, got mixer=none: choose one, or another method")
    mixer = instantiate(config.mixer)
    return mixer if isinstance(mixer, Mixer) else FunctionMixer(mixer)


def build_engine(config: DictConfig, mixer: Mixer, sources: Tensor | None) -> Engine:
    """Build the engine for a mixer; `sources` are the images that the config names, if it names some."""
    objects: dict[str, Any] = {"sources": sources} if "sources" in config.engine else {}
    if get_object(config.engine._target_) is engine_for:
        objects["mixer"] = mixer
    return build(config.engine, **objects)


def engine_for(mixer: Mixer, **settings: Any) -> Engine:
    """Choose the engine for a mixer: the stream with these settings, or batches where it cannot spread the work."""
    return StreamEngine(**settings) if mixer.streams else BatchEngine()


def needs_teacher(config: DictConfig) -> bool:
    """Return whether a teacher is chosen, and something asks for it."""
    return has_teacher(config) and bool(config.mixer or config.mixes or learns_from_teacher(config))


def has_teacher(config: DictConfig) -> bool:
    """Return whether a teacher is chosen; an experiment may have put settings of one where none is."""
    return "_target_" in config.teacher


def learns_from_teacher(config: DictConfig) -> bool:
    """Return whether the task takes a teacher."""
    return issubclass(get_class(config.task._target_), Distillation) or is_contrastive(config)


def is_contrastive(config: DictConfig) -> bool:
    """Return whether the task is CRD."""
    return issubclass(get_class(config.task._target_), ContrastiveDistillation)


def _build_view(config: DictConfig, datamodule: ImageDataModule) -> Transform | None:
    """Build what the student sees mixes under; one that is still to be told the data's statistics is told."""
    view = instantiate(config.mixing.mixed_transform)
    return view(mean=datamodule.mean, std=datamodule.std) if isinstance(view, partial) else view
