"""The resumable loader in a real Trainer: what was interrupted anywhere ends as what was not."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, OnExceptionCheckpoint

from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.data.datamodule import Opened

NUM_BATCHES = 6
SLOW = pytest.mark.slow


class Noise(ImageDataModule):
    def open_data(self) -> Opened:
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (44, 3, 4, 4), dtype=np.uint8)
        part = images, generator.integers(0, 3, 44)
        half = (0.5, 0.5, 0.5)
        return self._opened_arrays(train=part, test=part, class_names=["a", "b", "c"], mean=half, std=half)


class Linear(pl.LightningModule):
    """Keeps the batches it trained on; raises at the start of the step `fails_at`."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(48, 3)
        self.fails_at = fails_at
        self.seen: list[torch.Tensor] = []

    def training_step(self, batch, batch_idx):
        if self.global_step == self.fails_at:
            raise KeyError("power cut")
        images, labels = batch
        self.seen.append(images)
        return torch.nn.functional.cross_entropy(self.layer(images.flatten(1)), labels)

    def validation_step(self, batch, batch_idx):
        self.log("loss", self.layer(batch[0].flatten(1)).norm())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def fit(
    tmp_path: Path, *callbacks: Callback, model: Linear | None = None, resume: Path | None = None, **options
) -> Linear:
    model = model or Linear()
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        **{"max_epochs": 3, **options},
    )
    trainer.fit(model, datamodule=Noise(batch_size=8, seed=5), ckpt_path=resume, weights_only=resume and True)
    return model


def assert_continues(resumed: Linear, whole: Linear, step: int) -> None:
    assert len(resumed.seen) == len(whole.seen) - step
    for batch, expected in zip(resumed.seen, whole.seen[step:], strict=True):
        assert torch.equal(batch, expected)
    for value, expected in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(value, expected)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Linear, Path]:
    """An uninterrupted run with a checkpoint after every step."""
    folder = tmp_path_factory.mktemp("whole")
    every_step = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1, save_on_train_epoch_end=False)
    return fit(folder, every_step), folder


def test_epochs_differ_and_nothing_is_lost(whole: tuple[Linear, Path]) -> None:
    model, _ = whole
    assert len(model.seen) == 3 * NUM_BATCHES
    epochs = [torch.cat(model.seen[i : i + NUM_BATCHES]) for i in range(0, 3 * NUM_BATCHES, NUM_BATCHES)]
    assert [len(epoch) for epoch in epochs] == [44, 44, 44]
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])


@pytest.mark.parametrize("step", [2, 6, 9, *(pytest.param(s, marks=SLOW) for s in (1, 3, 5, 7, 11, 12, 13, 17, 18))])
def test_resumed_after_any_step(whole: tuple[Linear, Path], tmp_path: Path, step: int) -> None:
    model, folder = whole
    assert_continues(fit(tmp_path, resume=folder / f"step={step}.ckpt"), model, step)


@pytest.mark.parametrize("step", [4, 6, pytest.param(10, marks=SLOW)])
def test_resumed_by_number_of_steps(whole: tuple[Linear, Path], tmp_path: Path, step: int) -> None:
    model, folder = whole
    resumed = fit(tmp_path, resume=folder / f"step={step}.ckpt", max_epochs=-1, max_steps=3 * NUM_BATCHES)
    assert_continues(resumed, model, step)


@pytest.mark.parametrize("at_train_end", [True, False])
def test_resumed_between_epochs(whole: tuple[Linear, Path], tmp_path: Path, at_train_end: bool) -> None:
    model, _ = whole
    each_epoch = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=at_train_end)
    fit(tmp_path, each_epoch, max_epochs=2)
    assert_continues(fit(tmp_path, resume=tmp_path / "epoch=0.ckpt"), model, NUM_BATCHES)


@pytest.mark.parametrize("step", [8, pytest.param(6, marks=SLOW), pytest.param(0, marks=SLOW)])
def test_resumed_after_an_exception_within_a_step(whole: tuple[Linear, Path], tmp_path: Path, step: int) -> None:
    model, _ = whole
    with pytest.raises(KeyError, match="power cut"):
        fit(tmp_path, OnExceptionCheckpoint(tmp_path, "cut"), model=Linear(fails_at=step))
    assert_continues(fit(tmp_path, resume=tmp_path / "cut.ckpt"), model, step)
