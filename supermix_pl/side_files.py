"""Tensors beside a checkpoint: one file a rank, written before the checkpoint and removed with it."""

import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

_METHODS = ("save_checkpoint", "remove_checkpoint")


class SideFiles:
    """Writes a file beside every checkpoint that a strategy saves, and removes it with the checkpoint.

    No hook of a callback is told where a checkpoint goes, so the strategy's two methods are wrapped on the instance;
    `remove` leaves the strategy as it was. A file bears the number of its step, so that the pair of checkpoint and file
    on the disk is whole at any moment, also while both are replaced.

    Args:
        strategy: Of the trainer.
        rank: Of this process.
        tensors: Gives the tensors to save.
        step: Gives the number that the checkpoint will know them by.
    """

    def __init__(
        self, strategy: Any, rank: int, tensors: Callable[[], dict[str, Tensor]], step: Callable[[], int]
    ) -> None:
        self._strategy = strategy
        self._previous = {name: vars(strategy).get(name) for name in _METHODS}
        save, remove = (getattr(strategy, name) for name in _METHODS)

        def save_both(checkpoint: Any, filepath: Any, *args: Any, **kwargs: Any) -> None:
            path = side_path(filepath, step(), rank)
            _write(path, tensors())
            save(checkpoint, filepath, *args, **kwargs)
            strategy.barrier("supermix side files")
            _remove(filepath, rank, keep=path)

        def remove_both(filepath: Any) -> None:
            remove(filepath)
            _remove(filepath, rank)

        strategy.save_checkpoint, strategy.remove_checkpoint = save_both, remove_both

    def remove(self) -> None:
        """Give the strategy its own methods back."""
        for name, previous in self._previous.items():
            if previous is None:
                vars(self._strategy).pop(name, None)
            else:
                setattr(self._strategy, name, previous)


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
    """Read a file; None if it is not there."""
    return load_file(path) if path.is_file() else None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.part")
    save_file({name: value.detach().contiguous().clone() for name, value in tensors.items()}, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def _remove(checkpoint: str | os.PathLike[str], rank: int, keep: Path | None = None) -> None:
    """Remove the files of a rank beside a checkpoint."""
    path = Path(checkpoint).resolve()
    for found in path.parent.glob(f"{glob.escape(path.name)}.supermix-step*-rank{rank}.safetensors*"):
        if found != keep:
            found.unlink(missing_ok=True)
