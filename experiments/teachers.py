"""Where the experiments' teachers come from: a checkpoint, or a short training on the data."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import pytorch_lightning as pl
import torch
from hydra.utils import get_object, instantiate
from torch import nn

from supermix_pl import FrozenTeacher, MovingAverage
from supermix_pl.arguments import check_at_least
from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.shared.digests import digest_images
from supermix_pl.experiments.shared.files import to_be_made
from supermix_pl.experiments.tasks.classification import Classification, save_weights
from supermix_pl.experiments.tasks.schedules import linear

_INDIFFERENT = {  # arguments of data modules that do not change what a teacher learns
    *("seed", "batch_size", "eval_batch_size", "cache_dir", "num_workers"),
    *("with_indices", "epoch_batches"),
    *("images_per_class", "data_seed"),  # the images themselves are looked at
}


class Passes(TypedDict, total=False):
    """How a teacher's passes are made; `FrozenTeacher` says what the settings are."""

    dtype: str | None
    fold: bool
    channels_last: bool
    compile: bool
    features: str | None


def load_teacher(
    datamodule: ImageDataModule,
    *,
    network: Callable[..., nn.Module],
    checkpoint: str | Path | None,
    prefix: str = "",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    image_size: int | Sequence[int] | None = None,
    **passes: Unpack[Passes],
) -> FrozenTeacher:
    """Load a teacher for a data set that is set up.

    Args:
        datamodule: What the student trains on; gives what its inputs were normalised with where mean and std are None.
        network: Builds the teacher from `num_classes`.
        checkpoint: Its weights; see `load_checkpoint`.
        prefix: Common start of their names in the file.
        mean: What the teacher's inputs were normalised with.
        std: Likewise.
        image_size: Side in pixels that the teacher needs; None for the data set's own.
        passes: How the passes are made, see `FrozenTeacher`.
    """
    path = checked_path(checkpoint)
    module = load_checkpoint(network(num_classes=datamodule.num_classes), path, prefix=prefix)
    mean, std = datamodule.mean if mean is None else mean, datamodule.std if std is None else std
    return _frozen(module, datamodule, mean=mean, std=std, image_size=image_size, **passes)


def average_student(
    *, network: None = None, decay: float = 0.999, dtype: str | None = None, features: str | None = None
) -> MovingAverage:
    """Take the moving average of the student's own weights for a teacher, which has no `network` of its own."""
    return MovingAverage(decay, dtype=dtype, features=features)


def is_average(node: Mapping[str, Any]) -> bool:
    """Return whether a teacher's settings are those of `average_student`."""
    return get_object(node["_target_"]) is average_student


def checked_path(checkpoint: str | Path | None) -> Path:
    """Return the path of a teacher's weights.

    Raises:
        ValueError: If there is no such file.
    """
    if checkpoint is None or not Path(checkpoint).is_file():
        raise ValueError(
            f"expected a file with the teacher's weights in teacher.checkpoint, got {checkpoint}: train one with "
            "supermix-train experiment=teacher network=... (for Table 1 experiment=table1 pair=... method=plain) and "
            "give the weights.pth of its run, or use a published one"
        )
    return Path(checkpoint)


def fit_teacher(
    datamodule: ImageDataModule,
    *,
    network: Callable[..., nn.Module],
    folder: str | Path,
    epochs: int = 20,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    precision: str = "bf16-mixed",
    seed: int = 0,
    progress: bool = True,
    **passes: Unpack[Passes],
) -> FrozenTeacher:
    """Train a teacher on the data, once: later runs with the same arguments load it from the folder.

    It sees all training images, also where the student has but `images_per_class` of them; not those that are held out.

    Args:
        datamodule: What the student trains on, set up.
        network: Builds the teacher from `num_classes`.
        folder: Where fitted teachers are kept.
        epochs: Passes over the training images, >= 1.
        batch_size: Training images in a batch, >= 1.
        learning_rate: Peak of a linear warm-up and decay.
        weight_decay: Of SGD with Nesterov momentum 0.9.
        precision: Of the training, as `pl.Trainer` takes it.
        seed: Of the first weights, and of the order and views of the data, whatever the student's seed is.
        progress: Whether a progress bar is shown.
        passes: How the passes are made, see `FrozenTeacher`; it is trained in the same memory format.
    """
    check_at_least("epochs", epochs, 1)
    check_at_least("batch_size", batch_size, 1)
    data = datamodule.with_all_images()
    named = [_name(network), *_home(network)]
    settings = [_describe(data), *named, epochs, batch_size, learning_rate, weight_decay, precision, seed]
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    path = Path(folder) / f"{type(datamodule).__name__.lower()}-{_name(network)}-{digest}.pth"
    with to_be_made(path) as missing:
        if missing:
            pl.seed_everything(seed, workers=True, verbose=False)
            module = network(num_classes=datamodule.num_classes)
            if passes.get("channels_last"):
                module = module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            descent = {"lr": learning_rate, "momentum": 0.9, "weight_decay": weight_decay, "nesterov": True}
            task = Classification(
                module,
                num_classes=datamodule.num_classes,
                optimizer=partial(torch.optim.SGD, **descent),
                scheduler=partial(linear, warmup=0.2),
            )
            trainer = pl.Trainer(
                max_epochs=epochs,
                devices=1,
                precision=precision,  # pyright: ignore[reportArgumentType]
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=progress,
                check_val_every_n_epoch=epochs,
                default_root_dir=folder,
            )
            data.seed, data.batch_size = seed, batch_size
            trainer.fit(task, datamodule=data)
            save_weights(task, str(path), epochs)
    return load_teacher(datamodule, network=network, checkpoint=path, **passes)


def pretrained_teacher(
    datamodule: ImageDataModule,
    *,
    network: Callable[..., nn.Module],
    mean: Sequence[float],
    std: Sequence[float],
    image_size: int | Sequence[int] | None = None,
    **passes: Unpack[Passes],
) -> FrozenTeacher:
    """Build a teacher that brings its weights along, for data of its classes in its order; see `load_teacher`."""
    module = network(num_classes=datamodule.num_classes)
    return _frozen(module, datamodule, mean=mean, std=std, image_size=image_size, **passes)


def mean_teacher(datamodule: ImageDataModule, *, teachers: Mapping[str, Any]) -> FrozenTeacher:
    """Build several teachers, by configs of builders of this module, and average them: see `FrozenTeacher.mean_of`."""
    return FrozenTeacher.mean_of(
        [instantiate(node, _partial_=True)(datamodule=datamodule) for node in teachers.values()]
    )


def untrained_teacher(
    datamodule: ImageDataModule, *, network: Callable[..., nn.Module], **passes: Unpack[Passes]
) -> FrozenTeacher:
    """Return a teacher that has learnt nothing: for trying whether a run starts, never for a result."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # one teacher for all runs, so that a stopped generation of mixes can go on
        module = network(num_classes=datamodule.num_classes)
    return FrozenTeacher(module, **passes)


def _frozen(module: nn.Module, datamodule: ImageDataModule, **settings: Any) -> FrozenTeacher:
    return FrozenTeacher(module, input_mean=datamodule.mean, input_std=datamodule.std, **settings)


def _describe(datamodule: ImageDataModule) -> list[tuple[str, object]]:
    arguments = {field.name for field in fields(datamodule)} - _INDIFFERENT
    images = digest_images(*datamodule.training_samples())
    return [("images", images), *((name, getattr(datamodule, name)) for name in sorted(arguments))]


def _name(network: Callable[..., nn.Module]) -> str:
    """Name a builder, with the arguments that a partial one has bound."""
    if isinstance(network, partial):
        bound = [f"{name}={value}" for name, value in sorted(network.keywords.items())]
        return "-".join([_name(network.func), *bound]).replace("/", "_")
    return network.__name__


def _home(network: Callable[..., nn.Module]) -> list[str]:
    """Return the module of a network that is not ours, which may share its name with others."""
    module = (network.func if isinstance(network, partial) else network).__module__
    return [] if module.startswith("supermix_pl.") else [module]
