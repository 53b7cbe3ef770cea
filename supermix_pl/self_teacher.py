"""Teachers made of the trained module itself: the moving average of its weights, or an earlier run's."""

import copy
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from supermix_pl.arguments import check_share
from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.teacher import FrozenTeacher

_COMPILED_STEPS = ("forward", "training_step", "validation_step", "test_step", "predict_step")
_DTYPES = ("bfloat16", "float32", "float64")
_SHARDING = ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy")


class MovingAverage:
    """A teacher whose weights are an exponential moving average of the trained module's.

    So one run suffices where the paper trains a teacher first. The average follows the module from the first step on;
    `SuperMixCallback(start_epoch=...)` sets the epoch from which it supervises. The module's `forward` must give logits
    for images as the batches have them. Buffers, such as the statistics of batch norm, are those of rank 0 after every
    update. Batch norm stays in eval mode.

    Deviation: the paper's teacher is trained beforehand.

    Args:
        decay: Weight of the old average in an update, in [0, 1). Update t takes at most (1 + t) / (10 + t), so that the
            initial weights are soon forgotten.
        dtype: `torch.bfloat16` runs the teacher's passes under bfloat16 autocast. None, or the weights' own dtype, runs
            them in the dtype of the weights. Any other dtype is refused when fitting starts.

    Attributes:
        updates: Number of updates so far.
        milliseconds: Time of the last update on the host.

    Raises:
        ValueError: If the decay is out of its range, or the dtype is not one of these.
    """

    def __init__(self, decay: float = 0.999, *, dtype: torch.dtype | str | None = None) -> None:
        check_share("decay", decay)
        if dtype is not None and str(dtype).removeprefix("torch.") not in _DTYPES:
            raise ValueError(f"expected dtype None (the weights' own) or one of {', '.join(_DTYPES)}, got {dtype}")
        self.decay = decay
        self.dtype = dtype
        self.updates = 0
        self.milliseconds = 0.0
        self._module: nn.Module | None = None
        self._loaded: dict[str, Tensor] | None = None
        self._step = 0

    def start(self, module: nn.Module, step: int) -> FrozenTeacher:
        """Start from the module's weights, or from those of `load_state_dict`, and return the average as a teacher.

        Args:
            module: The trained module, on its device.
            step: Number of optimiser steps so far.
        """
        check_gives_logits(module)
        self._step = step
        self._module = copy_of(module)
        if self._loaded is not None:
            self._module.load_state_dict(self._loaded)
            self._loaded = None
        else:
            self.updates = 0
        return FrozenTeacher(self._module, fold=False, dtype=self.dtype)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's weights, if the optimiser has stepped, and copy rank 0's buffers.

        Args:
            module: The trained module.
            step: Number of optimiser steps so far.
        """
        if step == self._step:  # gradients are accumulated
            return
        assert self._module is not None
        start = time.perf_counter()
        self._step = step
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = list(zip(self._module.parameters(), module.parameters(), strict=True))
        averages: list[Tensor] = [average for average, _ in pairs if average.is_floating_point()]
        weights: list[Tensor] = [weight for average, weight in pairs if average.is_floating_point()]
        torch._foreach_lerp_(averages, weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        for mine, theirs in (*copied, *zip(self._module.buffers(), module.buffers(), strict=True)):
            mine.copy_(theirs)
        _from_rank_0(list(self._module.buffers()))
        self.milliseconds = 1000 * (time.perf_counter() - start)

    def state_dict(self) -> dict[str, Any]:
        """Give the averaged weights, the buffers and the number of updates."""
        weights = self._loaded if self._module is None else self._module.state_dict()
        return {"updates": self.updates, "weights": {name: value.clone() for name, value in (weights or {}).items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave when the average starts."""
        self.updates = state["updates"]
        self._loaded = dict(state["weights"]) or None


def teacher_from_checkpoint(module: nn.Module, path: str) -> FrozenTeacher:
    """Make a teacher of an earlier run of the same module: the paper's own way for Table 1."""
    check_gives_logits(module)
    check_whole(module)
    return FrozenTeacher(load_checkpoint(copy_of(module), path))


def copy_of(module: nn.Module) -> nn.Module:
    """Copy a module that a trainer may hold, as it was before any compilation and without trainer and callbacks."""
    children = {id(child) for child in module.children()}
    callbacks = [value for value in vars(module).values() if hasattr(value, "on_train_batch_start")]
    left_out = [value for value in callbacks if id(value) not in children]
    left_out += [value for value in (getattr(module, "_trainer", None),) if value is not None]
    copied = copy.deepcopy(module, {id(value): None for value in left_out})
    if vars(copied).get("_compiler_ctx") is not None:
        for name in _COMPILED_STEPS:
            vars(copied).pop(name, None)
        vars(copied)["_compiler_ctx"] = None
    return copied


def check_gives_logits(module: nn.Module) -> None:
    """Refuse a LightningModule without a `forward`, which could not teach."""
    if getattr(type(module).forward, "__module__", "").endswith(("core.module", "nn.modules.module")):
        raise ValueError(
            f"expected {type(module).__name__} to define forward(images) and give logits from it, as a teacher made of "
            "the module itself needs; define it, or give a teacher of another kind"
        )


def check_whole(module: nn.Module, strategy: str = "") -> None:
    """Refuse a module whose weights are spread over ranks.

    Args:
        module: That is trained.
        strategy: Class of the trainer's, if it may shard the module yet.

    Raises:
        ValueError: If they are, or will be.
    """
    spread = any(hasattr(weight, "full_tensor") for weight in module.parameters())
    if strategy in _SHARDING or spread:
        raise ValueError(
            f"expected a module whose weights every rank holds, got one that {strategy or 'its strategy'} shards: a "
            "teacher made of the module itself needs whole weights; train with DDP, or give a trained teacher"
        )


def _from_rank_0(buffers: list[Tensor]) -> None:
    """Give all ranks the buffers of rank 0."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for buffer in buffers:
            torch.distributed.broadcast(buffer, src=0)
