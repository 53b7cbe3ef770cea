"""The resumable loader in a real Trainer: what was interrupted anywhere ends as what was not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from supermix_pl.experiments.data import ImageDataModule, ResumableLoader
from supermix_pl.experiments.data.datamodule import Opened

NUM_BATCHES = 6


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


class Save(Callback):
    """Saves a checkpoint named after the step, from one of the hooks in which Lightning's checkpoint callbacks do."""

    def __init__(self, folder: Path, hook: str) -> None:
        setattr(self, hook, lambda trainer, *_: trainer.save_checkpoint(folder / f"{trainer.global_step}.ckpt"))


def fit(
    tmp_path: Path,
    *callbacks: Callback,
    model: Linear | None = None,
    data: pl.LightningDataModule | ResumableLoader | None = None,
    resume: Path | None = None,
    **options,
) -> Linear:
    model = model or Linear()
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 3, "num_sanity_val_steps": 1, **options},
    )
    trainer.fit(model, data or Noise(batch_size=8, seed=5), ckpt_path=resume, weights_only=resume and True)
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
    return fit(folder, Save(folder, "on_train_batch_end")), folder


def test_epochs_differ_and_nothing_is_lost(whole: tuple[Linear, Path]) -> None:
    model, _ = whole
    assert len(model.seen) == 3 * NUM_BATCHES
    epochs = [torch.cat(model.seen[i : i + NUM_BATCHES]) for i in range(0, 3 * NUM_BATCHES, NUM_BATCHES)]
    assert [len(epoch) for epoch in epochs] == [44, 44, 44]
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])


@pytest.mark.parametrize("step", [1, 2, 5, 6, 7, 9, 12, 13, 17, 18])
def test_resumed_after_any_step(whole: tuple[Linear, Path], tmp_path: Path, step: int) -> None:
    model, folder = whole
    assert_continues(fit(tmp_path, resume=folder / f"{step}.ckpt"), model, step)


@pytest.mark.parametrize("step", [4, 6, 10])
def test_resumed_by_number_of_steps(whole: tuple[Linear, Path], tmp_path: Path, step: int) -> None:
    model, folder = whole
    resumed = fit(tmp_path, resume=folder / f"{step}.ckpt", max_epochs=-1, max_steps=3 * NUM_BATCHES)
    assert_continues(resumed, model, step)


@pytest.mark.parametrize("hook", ["on_validation_end", "on_train_epoch_end"])
@pytest.mark.parametrize("options", [{}, {"max_epochs": -1, "max_steps": 3 * NUM_BATCHES}], ids=["epochs", "steps"])
def test_resumed_between_epochs(whole: tuple[Linear, Path], tmp_path: Path, hook: str, options: dict) -> None:
    model, _ = whole
    fit(tmp_path, Save(tmp_path, hook), max_epochs=1, num_sanity_val_steps=0)
    assert_continues(fit(tmp_path, resume=tmp_path / "6.ckpt", **options), model, NUM_BATCHES)


def test_resumed_by_number_of_steps_between_epochs_and_then_within_one(
    whole: tuple[Linear, Path], tmp_path: Path
) -> None:
    """After the first resumption Lightning counts an epoch too many, and saves it."""
    model, _ = whole
    fit(tmp_path, Save(tmp_path, "on_train_epoch_end"), max_epochs=1)
    by_steps: dict[str, Any] = {"max_epochs": -1, "max_steps": 3 * NUM_BATCHES}
    fit(tmp_path, Save(tmp_path, "on_train_batch_end"), resume=tmp_path / "6.ckpt", **by_steps)
    assert_continues(fit(tmp_path, resume=tmp_path / "9.ckpt", **by_steps), model, 9)


@pytest.mark.parametrize("step", [3, 6])
def test_resumed_after_a_validation_within_an_epoch(whole: tuple[Linear, Path], tmp_path: Path, step: int) -> None:
    model, _ = whole
    fit(tmp_path, Save(tmp_path, "on_validation_end"), max_epochs=1, val_check_interval=3, num_sanity_val_steps=0)
    assert_continues(fit(tmp_path, resume=tmp_path / f"{step}.ckpt", val_check_interval=3), model, step)


@pytest.mark.parametrize("step", [0, 6, 8])
def test_resumed_after_an_exception_within_a_step(whole: tuple[Linear, Path], tmp_path: Path, step: int) -> None:
    model, _ = whole
    with pytest.raises(KeyError, match="power cut"):
        fit(tmp_path, Save(tmp_path, "on_exception"), model=Linear(fails_at=step))
    assert_continues(fit(tmp_path, resume=tmp_path / f"{step}.ckpt"), model, step)


@pytest.mark.parametrize("step", [3, 4, 6])
def test_resumed_with_epochs_cut_short(tmp_path: Path, step: int) -> None:
    whole = fit(tmp_path, Save(tmp_path, "on_train_batch_end"), limit_train_batches=4)
    assert not torch.equal(whole.seen[0], whole.seen[4])
    assert_continues(fit(tmp_path, resume=tmp_path / f"{step}.ckpt", limit_train_batches=4), whole, step)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no")
def test_loader_without_the_data_module_resumes_too(whole: tuple[Linear, Path], tmp_path: Path) -> None:
    def loader() -> ResumableLoader:
        data = Noise(batch_size=8, seed=5)
        data.setup()
        return data.train_dataloader()

    model, _ = whole
    alone = fit(tmp_path, Save(tmp_path, "on_train_batch_end"), data=loader())
    assert_continues(alone, model, 0)
    assert_continues(fit(tmp_path, data=loader(), resume=tmp_path / "9.ckpt"), model, 9)


@pytest.mark.filterwarnings("ignore:You requested to overfit:UserWarning")
def test_overfitting_repeats_one_order(tmp_path: Path) -> None:
    model = fit(tmp_path, overfit_batches=2, data=Noise(batch_size=8, augment=False))
    assert torch.equal(model.seen[0], model.seen[2])


class SaveSeen(Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer, pl_module) -> None:
        torch.save(pl_module.seen, self.folder / f"{trainer.global_rank}.pt")


@pytest.mark.slow
def test_two_processes_share_each_epoch(tmp_path: Path) -> None:
    fit(tmp_path, SaveSeen(tmp_path), devices=2, strategy="ddp_spawn", max_epochs=2)
    data = Noise(batch_size=8, seed=5)
    data.setup()
    whole = data.train_dataloader()
    for rank in range(2):
        seen = torch.load(tmp_path / f"{rank}.pt")
        alone = ResumableLoader(whole.source, batch_size=8, seed=5, rank=rank, world_size=2)
        expected = []
        for epoch in range(2):
            alone.set_epoch(epoch)
            expected += [images for images, _ in alone]
        assert len(seen) == len(expected) == 6
        assert all(torch.equal(batch, other) for batch, other in zip(seen, expected, strict=True))
