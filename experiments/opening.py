"""Opens what figures, pages and benchmarks are of, named by the overrides of `supermix-train`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.building import build_data, build_teacher, has_teacher
from supermix_pl.experiments.checks import check_settings
from supermix_pl.experiments.shared.runs.identity import dataset, teacher_name
from supermix_pl.experiments.shared.subject import Subject

_EMBEDDED = "experiment=quickstart"


def composed(name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a config, with the working folder as root.

    Raises:
        ValueError: If there is no such choice or setting; a line.
    """
    here = quoted(Path.cwd())
    with initialize_config_module("supermix_pl.conf", version_base="1.3"):
        try:
            return compose(name, [f"paths.root_dir={here}", f"paths.output_dir={here}", *overrides])
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(one_line(error)) from error


def quoted(path: Path) -> str:
    """Write a path as the value of an override, whatever letters it has."""
    return "'" + str(path).replace("'", r"\'") + "'"


def one_line(error: Exception) -> str:
    """Write an error of Hydra's in a line, with its cause."""
    cause = str(error.__cause__ or "").partition("\n")[0]
    lines = [*str(error).splitlines()[:2], *([cause] if cause not in str(error) else [])]
    return "; ".join(line.strip() for line in lines if line.strip())


def figure_config(given: Sequence[str]) -> DictConfig:
    """Compose what a figure is drawn of.

    Without an override for data, teacher, pair or experiment these are the embedded shapes and the teacher of
    experiment=quickstart, which is trained first, once. Data alone get a teacher that is trained on them.
    """
    chosen = {override.lstrip("+").partition("=")[0] for override in given}
    own = []
    if not chosen & {"data", "teacher", "pair", "experiment"}:
        own.append(_EMBEDDED)
    elif "mixer" not in chosen:
        own.append("mixer=supermix")
    if "data" in chosen and not chosen & {"teacher", "pair", "experiment"}:
        own.append("teacher=fitted")
    return composed("train", [*own, *given])


def open_drawn(overrides: Sequence[str], *, num_images: int, note: str = "") -> Subject:
    """Open a teacher and test images that are drawn at random; see `figure_config` and `open_subject`."""
    return replace(open_subject(figure_config(overrides), num_images=num_images, shuffled=True), note=note)


def open_subject(config: DictConfig, *, num_images: int, split: str = "test", shuffled: bool = False) -> Subject:
    """Load a teacher and images of the test or the training part: the first ones, or random ones, at most all.

    Raises:
        ValueError: If no trained teacher, no SuperMix or no images are chosen, or something has to be given.
    """
    if num_images < 1:
        raise ValueError(f"expected --images >= 1, got {num_images}")
    check_settings(config)
    mixer = instantiate(config.mixer) if config.mixer else None
    if not isinstance(mixer, SuperMix):
        raise ValueError(f"expected mixer=supermix or supermix_fast, got {mixer}: the other methods are set beside it")
    network = teacher_name(_plain(config.teacher))
    if network is None:
        other = config.teacher if has_teacher(config) else "none"
        raise ValueError(f"expected teacher=checkpoint, pretrained, fitted or mean to label mixes, got {other}")
    data = build_data(config)
    source = data.opened.test if split == "test" else data.opened.train
    if source is None:
        raise ValueError("expected data with test images, got none: add them")
    count = len(source.labels)
    if not shuffled and num_images > count:
        raise ValueError(f"expected {num_images} {split} images, got {count}: ask for fewer, or give more data")
    order = np.random.default_rng(config.seed).permutation(count) if shuffled else np.arange(count)
    order = order[:num_images]
    teacher = build_teacher(config, data)
    assert isinstance(teacher, FrozenTeacher)  # a mixer asks for one, and it has a name
    device = next(teacher.module.parameters()).device
    images, labels = next(iter(source.batches([order], stream=None, device=device)))
    with torch.no_grad():
        teacher(images[:1])  # from now on it knows how many classes there are
    return Subject(
        teacher=teacher,
        images=images,
        labels=labels,
        class_names=data.class_names,
        mean=data.mean,
        std=data.std,
        supermix=mixer,
        seed=config.seed,
        data=dataset({"data": _plain(config.data)}),
        network=network,
    )


def _plain(node: DictConfig) -> Any:
    return OmegaConf.to_container(node)
