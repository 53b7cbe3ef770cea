"""Where the experiments' teachers come from: a checkpoint, or a short training on the same data."""

import copy
import hashlib
import inspect
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from filelock import FileLock
from torch import nn

from supermix_pl import FrozenTeacher
from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.tasks.classification import Classification, save_weights
from supermix_pl.experiments.tasks.schedules import linear


def load_teacher(
    datamodule: ImageDataModule,
    *,
    network: Callable[..., nn.Module],
    checkpoint: str | Path,
    prefix: str = "",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    image_size: int | Sequence[int] | None = None,
    dtype: str | None = None,
) -> FrozenTeacher:
    """Load a teacher for a data set that is set up.

    Args:
        datamodule: What the student trains on.
        network: Builds the teacher from `num_classes`.
        checkpoint: Its weights; see `load_checkpoint`.
        prefix: Common start of their names in the file.
        mean: What the teacher's inputs were normalised with; None for the data set's own.
        std: Likewise.
        image_size: Side in pixels that the teacher needs; None for the data set's own.
        dtype: "bfloat16" for passes in bfloat16; None for the weights' own.
    """
    module = load_checkpoint(network(num_classes=datamodule.num_classes), checkpoint, prefix=prefix)
    return FrozenTeacher(
        module,
        mean=datamodule.mean if mean is None else mean,
        std=datamodule.std if std is None else std,
        input_mean=datamodule.mean,
        input_std=datamodule.std,
        image_size=image_size,
        dtype=getattr(torch, dtype) if dtype else None,
    )


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
) -> FrozenTeacher:
    """Train a teacher on the student's own data, once: later runs with the same arguments load it from the folder.

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
    """
    settings = [_describe(datamodule), _name(network), epochs, batch_size, learning_rate, weight_decay, precision, seed]
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    path = Path(folder) / f"{type(datamodule).__name__.lower()}-{_name(network)}-{digest}.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            pl.seed_everything(seed, workers=True, verbose=False)
            task = Classification(
                network(num_classes=datamodule.num_classes),
                num_classes=datamodule.num_classes,
                optimizer=partial(
                    torch.optim.SGD, lr=learning_rate, momentum=0.9, weight_decay=weight_decay, nesterov=True
                ),
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
            data = copy.copy(datamodule)
            data.seed, data.batch_size = seed, batch_size
            trainer.fit(task, datamodule=data)
            save_weights(task, f"{path}.part", epochs)
            os.replace(f"{path}.part", path)
    return load_teacher(datamodule, network=network, checkpoint=path)


def _describe(datamodule: ImageDataModule) -> list[tuple[str, object]]:
    """List what decides on the teacher's training data."""
    arguments = {*inspect.signature(type(datamodule)).parameters, *inspect.signature(ImageDataModule).parameters}
    decisive = arguments - {"common", "seed", "batch_size", "eval_batch_size", "cache_dir", "num_workers"}
    return [(name, getattr(datamodule, name)) for name in sorted(decisive)]


def _name(network: Callable[..., nn.Module]) -> str:
    """Name a builder, with the arguments that a partial one has bound."""
    if isinstance(network, partial):
        bound = [f"{name}={value}" for name, value in sorted(network.keywords.items())]
        return "-".join([_name(network.func), *bound])
    return network.__name__
