"""Checkpoints that a stopped run goes on from: written whole, where a resumed run repeats the uninterrupted one."""

import logging
import signal
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from safetensors import SafetensorError, safe_open

from supermix_pl.experiments.shared.files import save_whole
from supermix_pl.trainer.resuming import validation_follows

KEPT = 2
_log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_STEPS_BETWEEN_TALKS = 20  # of several devices, about whether one of them has to save


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place and renames them; Lightning's own moves them in from the temporary folder.

    On another file system that move is a copy, of which a kill or a full disk leaves a part.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        save_whole(Path(path), checkpoint)


class Restart(Checkpoint):
    """Save a checkpoint every few minutes, and when a signal asks the run to end; the newest two are kept.

    SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 wait for the end of the step, where the run is saved; then they go to the
    handlers of Lightning, of submitit, or of Python, which requeue a job of Slurm or end it. A second one does not
    wait. With minutes=0 there is one after every step.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self.folder = folder
        self.minutes = minutes
        self._saved_at = 0.0
        self._handlers: dict[int, Any] = {}
        self._waiting: list[int] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, and let signals wait."""
        _forget(trainer)
        self._saved_at = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in _SIGNALS}
            self._handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
            for number in self._handlers:
                signal.signal(number, self._wait)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, unless gradients are being added up, or a validation follows, which would be lost to a resumed run."""
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        talks = trainer.world_size == 1 or (batch_idx + 1) % _STEPS_BETWEEN_TALKS == 0
        if stepped and talks and not trainer.is_last_batch and not validation_follows(trainer.fit_loop):
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and not trainer.is_last_batch:
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save_if_due(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let signals act at once again."""
        self._let_go()
        _forget(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let signals act at once again."""
        self._waiting.clear()
        self._let_go()

    def _wait(self, number: int, frame: Any) -> None:
        if number in self._waiting:
            self._handlers[number](number, frame)
        else:
            self._waiting.append(number)
            _log.warning("%s: saving at the end of the step; a second one does not wait", signal.Signals(number).name)

    def _save_if_due(self, trainer: pl.Trainer) -> None:
        due = bool(self._waiting) or time.monotonic() - self._saved_at >= 60 * self.minutes
        if trainer.world_size > 1:
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due and not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            self._save(trainer)
        self._hand_on()

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / f"step-{trainer.global_step:09d}.ckpt", weights_only=False)
        self._saved_at = time.monotonic()
        for old in trainer.strategy.broadcast(found(self.folder)[KEPT:]):
            trainer.strategy.remove_checkpoint(old)

    def _let_go(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._hand_on()
        self._handlers = {}

    def _hand_on(self) -> None:
        while self._waiting:
            number = self._waiting.pop()
            self._handlers[number](number, None)


def _forget(trainer: pl.Trainer) -> None:
    """Remove what Lightning saves for a requeued job of Slurm: it would test it in place of the trained weights."""
    for path in sorted(Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt")):
        trainer.strategy.remove_checkpoint(path)


def found(folder: Path) -> list[Path]:
    """Find what `Restart` has saved in a folder, the newest first."""
    return sorted(folder.glob("step-*.ckpt"), reverse=True)


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint, and what the mixing has saved beside it, can be read to the end."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        for beside in path.parent.glob(f"{path.name}.*.safetensors"):
            with safe_open(beside, "pt"):
                pass
    except (OSError, zipfile.BadZipFile, SafetensorError):
        return False
    return True
