"""A run's folder: what it was trained with, whether it is finished, and the checkpoint to go on from."""

import filecmp
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities import rank_zero_only

from supermix_pl.experiments.checkpoints import found, is_whole
from supermix_pl.experiments.shared.files import write_whole
from supermix_pl.experiments.shared.provenance import collect
from supermix_pl.experiments.shared.runs.budget import FREE, settings_but
from supermix_pl.experiments.shared.runs.folders import ORIGIN

CHECKPOINTS = "checkpoints"
_LEFT_BEHIND = ("config.yaml", "metrics.json", "evaluation.json", "weights.pth", ORIGIN, "hpc_ckpt_*.ckpt")
_FOLDERS = (CHECKPOINTS, "csv", "tensorboard")
_NAMED = 8  # differences, at most
_log = logging.getLogger(__name__)


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Hold a run's folder against other processes; yield False where another one has it.

    Ranks after the first belong to the process of the first.
    """
    if not _is_first():
        yield True
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def open_run(config: DictConfig) -> dict[str, Any] | None:
    """Open a run's folder, empty it if `overwrite` says so, and write its config with every reference resolved.

    Return the metrics of the run, if it is finished; else None.

    Raises:
        ValueError: If the folder holds a run with other settings.
    """
    folder = Path(config.paths.output_dir)
    if config.overwrite and not _began_in_this_job(folder):
        _clear(folder)
    elif (folder / "metrics.json").is_file() or found(folder / CHECKPOINTS):
        _compare(config, folder)
        if (folder / "metrics.json").is_file():
            return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    if _is_first():
        write_whole(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
        if not (folder / ORIGIN).is_file():
            write_whole(folder / ORIGIN, json.dumps(_origin(config)) + "\n")
    return None


def newest_checkpoint(folder: Path) -> Path | None:
    """Find the newest checkpoint that is whole; damaged ones are told of and left out."""
    for path in found(folder / CHECKPOINTS):
        if is_whole(path):
            _log.info("going on from %s", path)
            return path
        _log.warning("%s is damaged: going on from the one before", path)
    return None


def close_run(folder: Path) -> None:
    """Remove the checkpoints of a finished run that are there to go on from."""
    for path in (folder / CHECKPOINTS).glob("step-*"):
        path.unlink(missing_ok=True)


def _is_first() -> bool:
    """Return whether this is the first process of a run, before its trainer is there to tell."""
    rank: int = rank_zero_only.rank  # pyright: ignore[reportFunctionMemberAccess]
    return rank == 0 and os.environ.get("NODE_RANK", "0") == "0"


def _began_in_this_job(folder: Path) -> bool:
    """Return whether Slurm has queued the job of this run again: `overwrite` was for its first start."""
    try:
        job = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["job"]
    except (OSError, ValueError, KeyError):
        return False
    again = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"  # an allocation may run several commands
    return again and job is not None and job == os.environ.get("SLURM_JOB_ID")


def _clear(folder: Path) -> None:
    """Remove what a run leaves behind; other files, and runs in folders below, stay."""
    if not _is_first():
        return
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for pattern in _LEFT_BEHIND:
        for path in folder.glob(pattern):
            path.unlink()


def _compare(config: DictConfig, folder: Path) -> None:
    way_out = (
        "give overwrite=true to train it anew, or another folder: hydra.run.dir=FOLDER, or hydra.sweep.dir=FOLDER "
        "for a sweep"
    )
    try:
        there = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        assert isinstance(there, dict)
    except (OSError, ValueError, AssertionError, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(f"expected the config of a run in {folder / 'config.yaml'}, got none; {way_out}") from error
    wanted: Any = OmegaConf.to_container(config, resolve=True)
    before, now = settings_but(FREE, there), settings_but(FREE, wanted)
    changed = [name for name in sorted(before | now) if not _is_same(before.get(name), now.get(name))]
    if changed:
        shown = [f"{name}={now.get(name)} instead of {before.get(name)}" for name in changed[:_NAMED]]
        shown += [f"{len(changed) - _NAMED} more"] * (len(changed) > _NAMED)
        raise ValueError(f"expected the settings of the run in {folder}, got others: {', '.join(shown)}; {way_out}")


def _is_same(before: Any, now: Any) -> bool:
    """Return whether a setting stayed; also of a path, if what it leads to was moved, linked or copied."""
    if before == now:
        return True
    if not (isinstance(before, str) and isinstance(now, str) and Path(before).name == Path(now).name):
        return False
    old, new = Path(before), Path(now)
    if not (old.exists() and new.exists()):
        return new.exists() or (new.is_absolute() and not old.exists())  # moved, or planned below a moved folder
    if old.is_file() and new.is_file():
        return filecmp.cmp(old, new, shallow=False)
    return old.samefile(new) or _names_and_sizes(old) == _names_and_sizes(new)


def _names_and_sizes(folder: Path) -> list[tuple[str, int | None]]:
    return sorted((each.name, each.stat().st_size if each.is_file() else None) for each in folder.glob("*"))


def _origin(config: DictConfig) -> dict[str, Any]:
    """Return commit, machine, Slurm's job and command line; Hydra writes .hydra anew for a run that is then refused."""
    on_gpu = torch.cuda.is_available() and config.trainer.accelerator != "cpu"
    made = collect("supermix_pl.experiments.train", [], seeds=[config.seed], device="cuda" if on_gpu else "cpu")
    commit = None if made.commit is None else made.commit[:7] + " (dirty)" * bool(made.dirty)
    machine = ", ".join(f"{name} {value}" for name, value in made.machine.items())
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    job = os.environ.get("SLURM_JOB_ID")
    return {"commit": commit, "machine": machine, "job": job, "overrides": overrides}
