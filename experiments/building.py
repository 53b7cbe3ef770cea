"""From configs to objects: what needs more than Hydra's `instantiate`."""

import hashlib
import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import get_class, get_object, instantiate
from omegaconf import DictConfig
from torch import Tensor

from supermix_pl import FrozenTeacher, MovingAverage, SuperMixCallback
from supermix_pl.engine import BatchEngine, Engine, StreamEngine
from supermix_pl.experiments import resolvers
from supermix_pl.experiments.data import ImageDataModule, UnlabelledImages
from supermix_pl.experiments.mixes import (
    FixedMixes,
    MisplacedMixes,
    Plan,
    ReplayEngine,
    describe,
    describe_mixer,
    generate,
)
from supermix_pl.experiments.tasks import Classification, ContrastiveDistillation, Distillation
from supermix_pl.experiments.teachers import checked_path
from supermix_pl.mixing import FunctionMixer, Mixer, present
from supermix_pl.mixing.views import Transform

resolvers.register()  # here, not in the commands: a launcher's processes import this module
_log = logging.getLogger(__name__)


def build(node: DictConfig, **objects: Any) -> Any:
    """Build a node from its arguments and from finished objects, which Hydra would take apart as configs."""
    return instantiate(node, _partial_=True)(**objects)


def instantiate_all(group: DictConfig | None) -> list[Any]:
    """Build the members of a group of callbacks or loggers."""
    return [instantiate(member) for member in (group or {}).values() if member is not None]


def build_data(config: DictConfig) -> ImageDataModule:
    """Build the data, and set them up; a teacher that cannot be loaded ends the run before."""
    if _has_teacher(config) and "checkpoint" in config.teacher:
        checked_path(config.teacher.checkpoint)
    datamodule: ImageDataModule = instantiate(config.data)
    datamodule.prepare_data()
    datamodule.setup("fit")
    return datamodule


def build_teacher(config: DictConfig, datamodule: ImageDataModule) -> FrozenTeacher | MovingAverage | None:
    """Build the teacher, if one is chosen and something asks for it, on the device to work on.

    Raises:
        ValueError: If a moving average, which is there only while the student is trained, is asked for more than that.
    """
    if not _has_teacher(config):
        return None
    if get_object(config.teacher._target_) is MovingAverage:
        beforehand = config.data.mixed or config.data.external
        if beforehand or _learns_from_teacher(config):
            raise ValueError(
                "expected a trained teacher for fixed mixes, external images, distillation and CRD, got teacher=ema, "
                "which supervises mixes that are made on the fly: choose another teacher, or task=classification "
                "data.mixed=null"
            )
        return instantiate(config.teacher)
    teacher: FrozenTeacher = build(config.teacher, datamodule=datamodule)
    on_gpu = torch.cuda.is_available() and config.trainer.accelerator in ("auto", "gpu", "cuda")
    return teacher.to("cuda" if on_gpu else "cpu")


def build_mixing(
    config: DictConfig, teacher: FrozenTeacher | MovingAverage | None, datamodule: ImageDataModule
) -> SuperMixCallback | None:
    """Build the callback that mixes, if a mixer, fixed mixes or external images are chosen.

    A mixer without a teacher learns the classes from the data. Fixed mixes need no mixer. For distillation the callback
    has the teacher label every row.

    Raises:
        ValueError: If images that were made before do not fit the data, the mixer or the lack of a teacher, or mixing
            or task have arguments that are out of their range.
    """
    mixer = build_mixer(config)
    if mixer is not None and teacher is None:
        mixer = mixer.with_classes(datamodule.num_classes)
    if mixer is None and datamodule.external is None and datamodule.mixed is None:
        return None
    _check_kept(teacher, mixer, datamodule)
    objects: dict[str, Any] = {"teacher": teacher, "mixed_transform": _build_view(config, datamodule)}
    if mixer is not None:
        objects["mixer"] = mixer
    if issubclass(get_class(config.task._target_), Distillation) and teacher is not None:
        objects["label_natural"] = True
    if datamodule.mixed == "auto":  # before hours of solving: can what follows be built at all?
        build_task(config, teacher, build(config.mixing, **objects, engine=BatchEngine()), datamodule)
    kept = _kept_images(config, teacher, mixer, datamodule)
    if kept is None:
        assert mixer is not None
        sources = datamodule.training_images() if config.engine.get("sources") else None
        return build(config.mixing, **objects, engine=build_engine(config, mixer, sources))
    opened = datamodule.opened
    engine = ReplayEngine(kept, mean=opened.mean, std=opened.std, batch_size=datamodule.batch_size)
    return build(config.mixing, **objects, engine=engine)


def build_mixer(config: DictConfig) -> Mixer | None:
    """Build the mixer, if one is chosen."""
    if not config.mixer:
        return None
    mixer = instantiate(config.mixer)
    return mixer if isinstance(mixer, Mixer) else FunctionMixer(mixer, present)


def build_engine(config: DictConfig, mixer: Mixer, sources: Tensor | None) -> Engine:
    """Build the engine for a mixer; `sources` are the images that the config names, if it names some."""
    objects: dict[str, Any] = {"sources": sources} if "sources" in config.engine else {}
    if get_object(config.engine._target_) is engine_for:
        objects["mixer"] = mixer
    return build(config.engine, **objects)


def engine_for(mixer: Mixer, **settings: Any) -> Engine:
    """Choose the engine for a mixer: the stream with these settings, or batches where it cannot spread the work.

    Args:
        mixer: What makes the mixes.
        settings: Of `StreamEngine`.
    """
    return StreamEngine(**settings) if mixer.streams else BatchEngine()


def build_task(
    config: DictConfig,
    teacher: FrozenTeacher | MovingAverage | None,
    mixing: SuperMixCallback | None,
    datamodule: ImageDataModule,
) -> Classification:
    """Build the module to train."""
    network = instantiate(config.network, num_classes=datamodule.num_classes)
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)
    parts: dict[str, Any] = {
        "network": network,
        "num_classes": datamodule.num_classes,
        "optimizer": instantiate(config.optimizer),
        "scheduler": instantiate(config.scheduler),
        "mixing": mixing,
    }
    kind = get_class(config.task._target_)
    if _learns_from_teacher(config):
        if teacher is None:
            raise ValueError(
                f"expected a teacher for {kind.__name__}, got teacher=none; choose teacher=fitted or checkpoint"
            )
        parts["teacher"] = teacher
    if issubclass(kind, ContrastiveDistillation):
        parts["train_labels"] = datamodule.train_labels
    return build(config.task, **parts)


def external_images(config: DictConfig, datamodule: ImageDataModule) -> np.ndarray:
    """Open the images of `data.external`, of the data's size: pixels (n, 3, h, w), 0 to 255."""
    assert datamodule.external is not None
    return UnlabelledImages(datamodule.external, size=datamodule.image_size, cache_dir=config.paths.cache_dir).images


def _build_view(config: DictConfig, datamodule: ImageDataModule) -> Transform | None:
    """Build what the student sees mixes under; one that is still to be told the data's statistics is told."""
    view = instantiate(config.mixing.mixed_transform)
    opened = datamodule.opened
    return view(mean=opened.mean, std=opened.std) if isinstance(view, partial) else view


def _has_teacher(config: DictConfig) -> bool:
    extended = config.mixer or config.data.mixed or config.data.external
    return bool(config.teacher) and bool(extended or _learns_from_teacher(config))


def _learns_from_teacher(config: DictConfig) -> bool:
    return issubclass(get_class(config.task._target_), Distillation | ContrastiveDistillation)


def _check_kept(
    teacher: FrozenTeacher | MovingAverage | None, mixer: Mixer | None, datamodule: ImageDataModule
) -> None:
    """Refuse images that were made before without what they need, or with what they take the place of."""
    if datamodule.external is None and datamodule.mixed is None:
        return
    if not isinstance(teacher, FrozenTeacher):
        raise ValueError("expected a teacher to label the images of data.mixed or data.external, got teacher=none")
    if datamodule.external is not None and mixer is not None:
        raise ValueError(f"expected mixer=none beside data.external, whose images take the place of mixes, got {mixer}")
    if datamodule.mixed == "auto" and mixer is None:
        raise ValueError(
            "expected a mixer to make the mixes of data.mixed=auto, got mixer=none: choose one, or give the folder of "
            "supermix-generate"
        )


def _kept_images(
    config: DictConfig, teacher: FrozenTeacher | MovingAverage | None, mixer: Mixer | None, datamodule: ImageDataModule
) -> FixedMixes | MisplacedMixes | np.ndarray | None:
    """Open the images to train on beside the natural ones, if they are not mixed on the fly."""
    if datamodule.external is None and datamodule.mixed is None:
        return None
    if datamodule.external is not None:
        return external_images(config, datamodule)
    if datamodule.mixed == "auto":
        assert isinstance(teacher, FrozenTeacher)
        assert mixer is not None
        mixes = FixedMixes(make_mixes(config, teacher, mixer, datamodule))
    else:
        mixes = FixedMixes(str(datamodule.mixed))
        _check_fit(config, mixes, mixer, datamodule)
    return MisplacedMixes(mixes, datamodule, datamodule.seed) if datamodule.misplaced else mixes


def _check_fit(config: DictConfig, mixes: FixedMixes, mixer: Mixer | None, datamodule: ImageDataModule) -> None:
    """Refuse mixes that were made for other data, or by another mixer than the one that is named."""
    for name, wanted in {"image_size": list(datamodule.image_size), "num_classes": datamodule.num_classes}.items():
        if mixes.about[name] != wanted:
            raise ValueError(
                f"expected mixes with {name} {wanted}, as the data have, got {mixes.about[name]} in {mixes.folder}: "
                "make others with supermix-generate, or give other data"
            )
    if mixer is None:
        return
    for name, wanted in describe_mixer(mixer, _build_view(config, datamodule), datamodule).items():
        if mixes.about[name] != wanted:
            of = "mixes of" if name == "mixer" else "mixes that were solved under"
            raise ValueError(
                f"expected {of} {wanted}, got those of {mixes.about[name]} in {mixes.folder}: choose what made them, "
                "or mixer=none"
            )


def make_mixes(
    config: DictConfig,
    teacher: FrozenTeacher,
    mixer: Mixer,
    datamodule: ImageDataModule,
    folder: str | Path | None = None,
) -> Path:
    """Make a fixed data set of mixes as the configs say, or what is missing of it.

    Args:
        config: Its `fixed` node says how many.
        teacher: Supervises the mixes.
        mixer: Makes them.
        datamodule: Gives the sources.
        folder: Where to; None for a folder in the cache that is named by all that decides on the mixes.
    """
    plan: Plan = instantiate(config.fixed)
    view = _build_view(config, datamodule)
    about = json.dumps(describe(datamodule, teacher, mixer, plan, view=view))
    if folder is None:
        folder = Path(config.paths.cache_dir) / "mixes" / hashlib.sha256(about.encode()).hexdigest()[:16]
    _log.info("%d mixes in %s", plan.size, folder)
    progress = config.trainer.enable_progress_bar
    while not generate(folder, datamodule, teacher, mixer, plan, view=view, progress=progress):
        time.sleep(5)  # other processes are at work on the rest
    return Path(folder)
