"""What a figure is drawn of: a teacher and test images, named by the overrides of `supermix-train`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from jaxtyping import Float, Int
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.building import build_data, build_teacher, external_images
from supermix_pl.experiments.checks import check_settings
from supermix_pl.experiments.data import ImageDataModule, Shapes
from supermix_pl.experiments.data.pixels import Normalisation
from supermix_pl.experiments.report.identity import network_name, target

_EMBEDDED = "experiment=quickstart"


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A teacher and test images.

    Args:
        teacher: Supervises and labels the mixes.
        images: Normalised, on the teacher's device.
        labels: Their true classes.
        boxes: True box x0, y0, x1, y1 (pixels, ends exclusive) of the object in each image; None where none are known.
        class_names: In the order of the labels.
        mean: Per channel, what the images are normalised with, on the scale [0, 1].
        std: Likewise.
        supermix: The mixer with the settings that were asked for.
        seed: Of the choice of images and of the mixes.
        title: Names data and teacher.
        external: Images of data.external, normalised, at most as many as test images; None where none are given.
    """

    teacher: FrozenTeacher
    images: Float[Tensor, "b c h w"]
    labels: Int[Tensor, " b"]
    boxes: Int[Tensor, "b 4"] | None
    class_names: Sequence[str]
    mean: Sequence[float] | None
    std: Sequence[float] | None
    supermix: SuperMix
    seed: int
    title: str
    external: Float[Tensor, "e c h w"] | None = None

    @property
    def external_note(self) -> str:
        """What a title says of the external images, after other words."""
        return "" if self.external is None else f"; external: {len(self.external)} other images, without labels"


def open_subject(overrides: Sequence[str], *, num_images: int, note: str = "") -> Subject:
    """Load a teacher and test images that are drawn at random from the data.

    Without an override for data, teacher, pair or experiment these are the embedded shapes and the teacher of
    experiment=quickstart, which is trained first, once. Data alone get a teacher that is trained on them.

    Args:
        overrides: Of `supermix-train`, such as data=parquet, data.external=FOLDER or mixer.sigma=2.
        num_images: How many images, >= 1; all where the data have fewer.
        note: A remark on the data for the title.

    Raises:
        ValueError: If no trained teacher, no SuperMix or no test images are chosen, or something has to be given.
    """
    if num_images < 1:
        raise ValueError(f"expected --images >= 1, got {num_images}")
    config = _composed(overrides)
    check_settings(config)
    mixer = instantiate(config.mixer) if config.mixer else None
    if not isinstance(mixer, SuperMix):
        raise ValueError(
            f"expected mixer=supermix or supermix_fast, got {mixer}: the other methods are drawn beside it"
        )
    if not config.teacher or "network" not in config.teacher:
        raise ValueError(f"expected teacher=checkpoint, pretrained or fitted to label mixes, got {config.teacher}")
    data = build_data(config)
    teacher = build_teacher(config, data)
    assert isinstance(teacher, FrozenTeacher)  # a mixer asks for one, and it has a network
    source = data.opened.test
    if source is None:
        raise ValueError("expected data with test images, got none: add them")
    order = np.random.default_rng(config.seed).permutation(len(source.labels))[:num_images]
    images, labels = next(iter(source.batches([order], stream=None)))
    device = next(teacher.module.parameters()).device
    return Subject(
        teacher=teacher,
        images=images.to(device),
        labels=labels.to(device),
        boxes=torch.from_numpy(data.boxes[order]).to(device) if isinstance(data, Shapes) else None,
        class_names=data.class_names,
        mean=data.mean,
        std=data.std,
        supermix=mixer,
        seed=config.seed,
        external=_external(config, data, num_images, device),
        title=f"{_data_name(config)}{f' ({note})' * bool(note)}, teacher {_teacher_name(config)}",
    )


def _composed(given: Sequence[str]) -> DictConfig:
    chosen = {override.lstrip("+").partition("=")[0] for override in given}
    here = Path.cwd()
    own = [f"paths.root_dir={here}", f"paths.output_dir={here}"]
    if not chosen & {"data", "teacher", "pair", "experiment"}:
        own.append(_EMBEDDED)
    elif "mixer" not in chosen:
        own.append("mixer=supermix")
    if "data" in chosen and not chosen & {"teacher", "pair", "experiment"}:
        own.append("teacher=fitted")
    with initialize_config_module("supermix_pl.conf", version_base="1.3"):
        return compose("train", [*own, *given])


def _external(
    config: DictConfig, data: ImageDataModule, num_images: int, device: torch.device
) -> Float[Tensor, "e c h w"] | None:
    if data.external is None:
        return None
    found = external_images(config, data)
    rows = np.random.default_rng(config.seed).permutation(len(found))[:num_images]
    pixels = torch.from_numpy(found[np.sort(rows)]).to(device)
    return Normalisation(data.opened.mean, data.opened.std).normalise(pixels)


def _data_name(config: DictConfig) -> str:
    folder = config.data.get("folder")
    return Path(folder).name if folder else target(_plain(config.data)).lower()


def _teacher_name(config: DictConfig) -> str:
    return network_name(_plain(config.teacher.network))


def _plain(node: DictConfig) -> Any:
    return OmegaConf.to_container(node)
