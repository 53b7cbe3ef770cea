"""`supermix-train`: trains a teacher or a student as the configs say, and leaves its figures behind."""

import json
import logging
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from lightning_utilities.core import rank_zero
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.utilities.seed import isolate_rng

from supermix_pl import FrozenTeacher
from supermix_pl.experiments import building, restart
from supermix_pl.experiments.checkpoints import Restart, WholeCheckpoints
from supermix_pl.experiments.checks import (
    check_choices,
    check_settings,
    check_tested,
    ending_in_a_line,
    in_sweep,
    named_errors,
)
from supermix_pl.experiments.record import RunRecorder
from supermix_pl.experiments.shared.files import write_whole
from supermix_pl.experiments.tasks.classification import save_weights

_TERMINATED = 128 + 15  # what a shell says of a process that SIGTERM ended
_log = logging.getLogger(__name__)


def train(config: DictConfig) -> dict[str, Any]:
    """Train and test one module as a config says; go on where it was stopped, and pass over what is finished.

    Returns:
        What metrics.json holds: accuracies in [0, 1] of the last epoch, and of the best if any was validated, times,
        what the mixing cost.
    """
    folder = Path(config.paths.output_dir)
    with named_errors():
        _check_launcher(config)
        check_settings(config)
        if (finished := restart.open_run(config)) is not None:
            _log.info("%s is finished; overwrite=true trains it anew", folder)
            return finished
        check_choices(config)
        loggers = building.instantiate_all(config.logger)
        callbacks = building.instantiate_all(config.callbacks)
        _try_trainer(config)
        datamodule = building.build_data(config)
        datamodule.training_samples()  # says what the data lack before a teacher is fitted
        check_tested(config, datamodule)
        with isolate_rng():
            building.build_network(config, datamodule)  # says what is wrong with the student's; of no other use
        mixes = building.build_mixes(config, datamodule)
        teacher = building.build_teacher(config, datamodule)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    task = building.build_task(config, teacher, datamodule)
    mixing = building.build_mixing(config, teacher, datamodule, mixes)
    recorder = RunRecorder(mixing, teacher if isinstance(teacher, FrozenTeacher) else None)
    callbacks += [*([mixing] if mixing else []), recorder, Restart(folder / restart.CHECKPOINTS, **config.restart)]
    if not config.trainer.enable_progress_bar:
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    trainer: pl.Trainer = building.build(
        config.trainer,
        callbacks=callbacks,
        logger=loggers or False,
        plugins=[WholeCheckpoints()],
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # it goes on
            trainer.fit(task, datamodule=datamodule, ckpt_path=restart.newest_checkpoint(folder) or config.ckpt_path)
    except SystemExit as error:  # Lightning's answer to Ctrl-C and SIGTERM
        anew = " without overwrite=true" * config.overwrite
        _log.warning("stopped in epoch %d; the same command%s goes on", trainer.current_epoch, anew)
        sys.exit(error.code or _TERMINATED)
    tested = trainer.test(task, datamodule=datamodule, verbose=False)[0]
    best = {"accuracy": "val/accuracy_best", "accuracy_top5": "val/accuracy_top5_best", "epoch": "best_epoch"}
    metrics = {
        **tested,
        **{best[name]: value for name, value in task.best.items()},
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "seed": config.seed,
        "parameters": sum(weights.numel() for weights in task.network.parameters()),
        "diverged": int(not all(weights.isfinite().all() for weights in task.network.parameters())),
        **recorder.metrics(),
    }
    if trainer.is_global_zero:
        save_weights(task, str(folder / "weights.pth"), trainer.current_epoch)
        on_test = datamodule.validation_fraction == 0
        write_whole(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        _log.info("%s", _result(metrics, folder / "metrics.json", on_test=on_test))
        if metrics["diverged"]:
            _log.warning("it diverged: weights are not finite; lower optimizer.lr, now %s", config.optimizer.get("lr"))
        restart.close_run(folder)
    return metrics


def _result(metrics: dict[str, Any], where: Path, *, on_test: bool) -> str:
    """Put a run's result into one line; `on_test` says that the best epoch was found on the test images."""
    last, best = 100 * metrics["test/accuracy"], metrics.get("val/accuracy_best")
    found = ", found on the test images as data.validation_fraction is 0" if on_test else ""
    teacher, holds = metrics.get("teacher/accuracy"), metrics.get("supermix/holds")
    best_epoch = "no epoch was validated"
    if best is not None:
        best_epoch = f"validation accuracy {100 * best:.2f} % in the best (epoch {metrics['best_epoch']}{found})"
    parts = [
        f"test accuracy {last:.2f} % after the last epoch, {best_epoch}",
        "" if teacher is None else f"the teacher has {100 * teacher:.2f} %",
        "" if holds is None else f"{100 * holds:.0f} % of the mixes held",
        f"{timedelta(seconds=round(metrics['fit_seconds']))} of training",
        str(where),
    ]
    return "; ".join(part for part in parts if part)


def _try_trainer(config: DictConfig) -> None:
    """Build a trainer of no use, before hours are spent on a teacher and mixes; it says and sets nothing."""
    log = rank_zero.log
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            building.build(config.trainer, logger=False, enable_checkpointing=False, deterministic=False)
    finally:
        log.setLevel(level)


def _check_launcher(config: DictConfig) -> None:
    """Stop a sweep whose every job would start the whole sweep again in each of its ranks."""
    if not in_sweep() or config.trainer.devices == 1:
        return
    trainer: pl.Trainer = building.build(config.trainer, logger=False, enable_checkpointing=False)
    environment = getattr(trainer.strategy.launcher, "cluster_environment", None)  # of launchers that start scripts
    if environment is not None and not environment.creates_processes_externally and trainer.num_devices > 1:
        raise ValueError(
            f"expected one device a job in a multirun, got {trainer.num_devices} with a strategy that starts this "
            "script again for every rank, each of which would run the whole sweep; set trainer.devices=1, or use "
            "hydra/launcher=slurm, which starts a task for every device (hydra.launcher.tasks_per_node)"
        )


@hydra.main(config_path="pkg://supermix_pl.conf", config_name="train", version_base="1.3")
def main(config: DictConfig) -> float | None:
    """Train as composed on the command line; return the figure that a sweep may optimise, if this process did."""
    torch.set_float32_matmul_precision(config.matmul_precision)
    folder = Path(config.paths.output_dir)
    with ending_in_a_line("supermix-train"):
        if config.get("rows"):
            from supermix_pl.experiments.few_images import has_row  # and pandas with it

            with named_errors():
                there = has_row(config.rows, config, HydraConfig.get().overrides.task)
            if there:
                _log.info("passed over, as its row is in %s: %s", config.rows, folder)
                return None
        with restart.alone(folder) as mine:
            if mine:
                return train(config).get("val/accuracy_best")
        _log.info("%s: another process is at it", folder)
    return None


if __name__ == "__main__":
    main()
