"""Tensors beside a checkpoint: one file a rank, written before the checkpoint and removed with it."""

import glob
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from supermix_pl.engine import Engine
from supermix_pl.trainer.wrapping import Wrapped


class SideFiles(Wrapped):
    """Writes a file beside every checkpoint that a strategy saves, and removes it with the checkpoint.

    No hook of a callback is told where a checkpoint goes, so the strategy's methods are wrapped on the instance;
    `remove` leaves the strategy as it was. A file bears the number that `step` gives, so that the pair of checkpoint
    and file on the disk is whole at any moment, also while both are replaced. Checkpoints of weights alone, and steps
    without `tensors`, get none. Rank 0 removes the files of ranks from `world_size` on, which a larger run left behind.
    A rank that is `alone`, as after an exception that others may not have had, waits for none and leaves what is there.
    """

    def __init__(
        self,
        strategy: Any,
        rank: int,
        tensors: Callable[[], dict[str, Tensor]],
        step: Callable[[], int],
        world_size: int | None = None,
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        save, remove = strategy.save_checkpoint, strategy.remove_checkpoint

        def save_both(checkpoint: Any, filepath: Any, *args: Any, **kwargs: Any) -> None:
            path = side_path(filepath, step(), rank)
            if "callbacks" in checkpoint and (held := tensors()):
                _write(path, held)
            together = not alone()
            if together:
                strategy.barrier("supermix: files of all ranks are there")
            save(checkpoint, filepath, *args, **kwargs)
            if together:
                strategy.barrier("supermix: and so is the checkpoint")
                _remove(filepath, rank, world_size, keep=path)

        def remove_both(filepath: Any) -> None:
            remove(filepath)
            _remove(filepath, rank, world_size)

        super().__init__(strategy, save_checkpoint=save_both, remove_checkpoint=remove_both)


def side_path(checkpoint: str | os.PathLike[str], step: int, rank: int) -> Path:
    """Name the file of a rank beside a checkpoint; links are followed.

    Raises:
        ValueError: If the checkpoint is not in a local folder.
    """
    if "://" in str(checkpoint):
        raise ValueError(
            f"expected checkpoints in a local folder for save_state=True, got {checkpoint}; choose one, or "
            "save_state=False"
        )
    path = Path(checkpoint).resolve()
    return path.with_name(f"{path.name}.supermix-step{step}-rank{rank}.safetensors")


def read(path: Path) -> dict[str, Tensor] | None:
    """Read a file; None if it is not there.

    Raises:
        ValueError: If it is damaged.
    """
    if not path.is_file():
        return None
    try:
        return load_file(path)
    except Exception as error:  # what a reader of garbage stumbles over may be of any kind
        raise ValueError(
            f"expected the tensors that save_state=True writes beside checkpoints in {path}, got a damaged file "
            f"({path.stat().st_size} bytes); restore it, or delete it to let the store fill anew"
        ) from error


def load_beside(checkpoint: str | os.PathLike[str], engine: Engine, rank: int, world_size: int) -> None:
    """Give an engine what was saved beside a checkpoint.

    Warn where that is not there, every rank of its own file; and rank 0 of files of ranks that are no more.

    Raises:
        ValueError: If the file is damaged, or not of such an engine.
    """
    path = side_path(checkpoint, engine.steps, rank)
    if (tensors := read(path)) is None:
        warnings.warn(
            f"Expected {path}, which save_state=True writes beside the checkpoints of a fit, and it is not there: the "
            "store fills anew, and the run will differ from an uninterrupted one.",
            stacklevel=3,
        )
    else:
        try:
            engine.load_tensors(tensors)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; restore it, or delete it to let the store fill anew") from error
    of_others = side_path(checkpoint, engine.steps, world_size)
    if rank == 0 and of_others.is_file():
        warnings.warn(
            f"{of_others} and what ranks above it saved is of no use to this run of {world_size}: their stores are "
            "lost, and the run will differ from an uninterrupted one.",
            stacklevel=3,
        )


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write beside the place, then rename; a full disk is an `OSError`, which safetensors' own writing is not."""
    part = path.with_name(f"{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    on_host = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    try:
        with part.open("wb") as file:
            file.write(save(on_host))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)


def _remove(
    checkpoint: str | os.PathLike[str], rank: int, world_size: int | None = None, keep: Path | None = None
) -> None:
    """Remove the files of a rank beside a checkpoint; on rank 0 those of ranks that are no more, too."""
    path = Path(checkpoint).resolve()
    for found in path.parent.glob(f"{glob.escape(path.name)}.supermix-step*-rank*.safetensors*"):
        of = found.name.removeprefix(path.name).rpartition("-rank")[2].partition(".")[0]
        gone = rank == 0 and world_size is not None and of.isdecimal() and int(of) >= world_size
        if (of == str(rank) or gone) and found != keep:
            found.unlink(missing_ok=True)
