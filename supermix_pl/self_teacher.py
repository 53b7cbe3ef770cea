"""Teachers made of the trained module itself: the moving average of its weights, or an earlier run's."""

import copy
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.teacher import FrozenTeacher

_COMPILED_STEPS = ("forward", "training_step", "validation_step", "test_step", "predict_step")
_SHARDING = ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy")


class MovingAverage:
    """A teacher whose weights are an exponential moving average of the trained module's.

    The module's `forward` must give logits of images that come as the batches have them. Its buffers, such as the
    statistics of batch norm, are those of rank 0 after every update; batch norm stays in eval mode. One run then
    suffices where the paper trains a teacher first.

    Deviation: the paper's teacher is trained beforehand; see `SuperMixCallback(start_epoch=...)`.

    Args:
        decay: Weight of the average in an update, in [0, 1); smaller at first, (1 + t) / (10 + t) in update t, so that
            the initial weights are soon forgotten.

    Raises:
        ValueError: If the decay is out of its range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"expected decay in [0, 1), got {decay}")
        self.decay = decay
        self.updates = 0
        self.milliseconds = 0.0
        self._module: nn.Module | None = None
        self._loaded: dict[str, Tensor] | None = None

    def start(self, module: nn.Module) -> FrozenTeacher:
        """Begin with the module's weights, or with what `load_state_dict` gave, and wrap the average as a teacher."""
        self._module = copy_of(module)
        if self._loaded is not None:
            self._module.load_state_dict(self._loaded)
            self._loaded = None
        else:
            self.updates = 0
        return FrozenTeacher(self._module, fold=False)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move towards the module's weights by a step, and take over rank 0's buffers."""
        assert self._module is not None
        start = time.perf_counter()
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, weights = list(self._module.parameters()), [weight.detach() for weight in module.parameters()]
        floating = [place for place, average in enumerate(averages) if average.is_floating_point()]
        torch._foreach_lerp_([averages[place] for place in floating], [weights[place] for place in floating], 1 - decay)
        for mine, theirs in zip(self._module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)
        _from_rank_0(list(self._module.buffers()))
        self.milliseconds = 1000 * (time.perf_counter() - start)

    def state_dict(self) -> dict[str, Any]:
        """Give the averaged weights, the buffers and the number of updates."""
        weights = self._loaded if self._module is None else self._module.state_dict()
        return {"updates": self.updates, "weights": {name: value.clone() for name, value in (weights or {}).items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave, now or when the average starts."""
        self.updates = state["updates"]
        self._loaded = dict(state["weights"])
        if self._module is not None:
            self._module.load_state_dict(self._loaded)
            self._loaded = None


def teacher_from_checkpoint(module: nn.Module, path: str) -> FrozenTeacher:
    """Make a teacher of an earlier run of the same module: the paper's own way for Table 1."""
    return FrozenTeacher(load_checkpoint(copy_of(module), path))


def copy_of(module: nn.Module) -> nn.Module:
    """Copy a module that a trainer may hold, as it was before any compilation and without its callback.

    Raises:
        ValueError: If its weights are spread over ranks.
    """
    check_whole(module)
    held = {id(value): None for value in vars(module).values() if hasattr(value, "on_train_batch_start")}
    held = {key: None for key, value in held.items() if key not in {id(child) for child in module.children()}}
    memo: dict[int, Any] = {id(getattr(module, "_trainer", None)): None, **held}
    memo.pop(id(None), None)
    copied = copy.deepcopy(module, memo)
    if vars(copied).get("_compiler_ctx") is not None:
        for name in _COMPILED_STEPS:
            vars(copied).pop(name, None)
        vars(copied)["_compiler_ctx"] = None
    return copied


def check_whole(module: nn.Module) -> None:
    """Refuse a module whose weights are spread over ranks."""
    strategy = type(getattr(getattr(module, "_trainer", None), "strategy", None)).__name__
    spread = [name for name, weight in module.named_parameters() if hasattr(weight, "full_tensor")]
    if strategy in _SHARDING or spread:
        raise ValueError(
            f"expected a module whose weights every rank holds, got one that {strategy} shards: a teacher made of the "
            "module itself needs whole weights; train with DDP, or give a trained teacher"
        )


def _from_rank_0(buffers: list[Tensor]) -> None:
    """Give all ranks the buffers of rank 0."""
    if (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    ):
        for buffer in buffers:
            torch.distributed.broadcast(buffer, src=0)
