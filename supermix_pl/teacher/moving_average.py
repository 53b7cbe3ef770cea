"""Teachers made of the trained module itself: the moving average of its weights, or an earlier run's."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from supermix_pl.arguments import check_share
from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.teacher.copying import copy_of
from supermix_pl.teacher.frozen import FrozenTeacher

_DTYPES = ("bfloat16", "float32", "float64")
_SAME_PARAMETERS = "expected the trained module to keep its parameters, which its moving average follows by their names"
_ADVICE = "build and prune it before fitting starts, or give a teacher of another kind"
SHARDING = ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy")
"""Classes of strategies that spread weights over ranks."""


class MovingAverage:
    """A teacher whose weights are an exponential moving average of the trained module's.

    So one run suffices where the paper trains a teacher first. The average follows the module from the first step on;
    `SuperMixCallback(start_epoch=...)` sets the epoch from which it supervises. The module's `forward` must give logits
    for images as the batches have them. The average is kept in float32 at least, and cast to the dtype of the module's
    weights for the passes. Buffers, such as the statistics of batch norm, are those of rank 0 after every update. Batch
    norm stays in eval mode. The module must keep its parameters: pruning, and layers that come while it trains, are
    refused.

    Deviation: the paper's teacher is trained beforehand.

    Args:
        decay: Weight of the old average in an update, in [0, 1). Update t takes at most (1 + t) / (10 + t), so that the
            initial weights are soon forgotten.
        dtype: `torch.bfloat16` runs the teacher's passes under bfloat16 autocast. None, or the weights' own dtype, runs
            them in the dtype of the weights. Any other dtype is refused when fitting starts.
        features: As `FrozenTeacher` takes it.

    Attributes:
        updates: Number of updates so far.
        module: A copy of the trained module with the averaged weights, in its own dtype; None before the start.
        weights: The averaged weights by name, at least in float32; the copy's own where that is their dtype.
        milliseconds: Time of the last update on the host.

    Raises:
        ValueError: If the decay is out of its range, or the dtype is not one of these.
    """

    def __init__(
        self, decay: float = 0.999, *, dtype: torch.dtype | str | None = None, features: str | None = None
    ) -> None:
        check_share("decay", decay)
        if dtype is not None and str(dtype).removeprefix("torch.") not in _DTYPES:
            raise ValueError(f"expected dtype None (the weights' own) or one of {', '.join(_DTYPES)}, got {dtype}")
        self.decay = decay
        self.dtype = dtype
        self.features = features
        self.updates = 0
        self.module: nn.Module | None = None
        self.weights: dict[str, Tensor] = {}
        self.milliseconds = 0.0
        self.loaded: Mapping[str, Any] | None = None
        self._step = 0

    def __repr__(self) -> str:
        given = {"dtype": self.dtype, "features": self.features}
        more = [f", {name}={value}" for name, value in given.items() if value is not None]
        return f"MovingAverage(decay={self.decay}{''.join(more)})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to a run: copies begin anew."""
        return vars(type(self)(self.decay, dtype=self.dtype, features=self.features))

    def forget(self) -> None:
        """Let go of an earlier run: another one begins, and has not been resumed yet."""
        self.module, self.weights, self.updates, self.loaded = None, {}, 0, None

    def start(self, module: nn.Module, step: int) -> FrozenTeacher:
        """Begin with the module's weights, or with what `load_state_dict` gave, and wrap the average as a teacher.

        The module is on its device; `step` is a number that changes when its optimiser steps.

        Raises:
            ValueError: If the module cannot be copied or has layers that are not built yet, or if what goes on is the
                average of another module.
        """
        check_gives_logits(module)
        lazy = [name for name, weight in module.named_parameters() if is_lazy(weight)]
        if lazy:
            raise ValueError(
                f"expected a module whose layers have all their weights, got {lazy[0]!r} of a lazy layer; show it a "
                "batch before fitting starts"
            )
        self._step = step
        self.module, self.weights, self.updates = copy_of(module), {}, 0
        for name, weight in self.module.named_parameters():
            kept = torch.promote_types(weight.dtype, torch.float32) if weight.is_floating_point() else weight.dtype
            self.weights[name] = weight if kept == weight.dtype else weight.detach().to(kept)
        loaded, self.loaded = self.loaded, None
        if loaded is not None:
            self._take_up(loaded)
        return self.as_teacher(self.module)

    def as_teacher(self, module: nn.Module) -> FrozenTeacher:
        """Wrap a copy of the trained module as the average is wrapped."""
        return FrozenTeacher(module, fold=False, dtype=self.dtype, features=self.features)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the module's weights, if the optimiser has stepped, and take over rank 0's buffers.

        Raises:
            ValueError: If the module has other parameters or parts than it had.
        """
        if step == self._step:  # gradients are accumulated
            return
        assert self.module is not None
        start = time.perf_counter()
        self._step = step
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        trained = dict(module.named_parameters())
        _check_same(self.weights, trained)
        floating = [name for name, average in self.weights.items() if average.is_floating_point()]
        averages = [self.weights[name] for name in floating]
        weights = [trained[name].to(self.weights[name].dtype) for name in floating]
        torch._foreach_lerp_(averages, weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        for name, weight in self.module.named_parameters():
            average = self.weights[name] if weight.is_floating_point() else trained[name]
            if average is not weight:
                weight.copy_(average)
        _follow_buffers(self.module, module)
        self.milliseconds = 1000 * (time.perf_counter() - start)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights, the buffers and the number of updates."""
        if self.loaded is not None:
            return dict(self.loaded)
        if self.module is None:
            return {"updates": 0, "weights": {}}
        held = self.weights | dict(_persistent_buffers(self.module))
        return {"updates": self.updates, "weights": {name: value.detach().clone() for name, value in held.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave: when the average starts, or now if it has, as where a finder runs late."""
        if self.module is None:
            self.loaded = dict(state) if state["weights"] else None
            self.updates = state["updates"]
        elif state["weights"]:
            self._take_up(state)

    @torch.no_grad()
    def _take_up(self, state: Mapping[str, Any]) -> None:
        assert self.module is not None
        buffers = dict(_persistent_buffers(self.module))
        given = {name: value for name, value in state["weights"].items() if name not in buffers}
        _check_same(given, self.weights)
        for name, weight in self.module.named_parameters():
            self.weights[name].copy_(given[name])
            if self.weights[name] is not weight:
                weight.copy_(given[name])
        for name, buffer in buffers.items():
            held = state["weights"].get(name)
            if held is not None and held.shape == buffer.shape:
                buffer.copy_(held)
        self.updates = state["updates"]


def _check_same(averaged: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> None:
    """Refuse a module whose parameters have other names or shapes than those that are averaged."""
    if averaged.keys() == trained.keys() and all(trained[name].shape == held.shape for name, held in averaged.items()):
        return
    more, fewer = ([*trained.keys() - averaged.keys()], [*averaged.keys() - trained.keys()])
    other = [name for name, held in averaged.items() if name in trained and trained[name].shape != held.shape]
    found = (("new", more), ("gone", fewer), ("of another shape", other))
    parts = [f"{len(names)} {what} ({min(names)!r} first)" for what, names in found if names]
    raise ValueError(f"{_SAME_PARAMETERS}, got {', '.join(parts)}; {_ADVICE}")


def _follow_buffers(averaged: nn.Module, module: nn.Module) -> None:
    """Take over the buffers of a module, those of later too; rank 0's, where there are several ranks."""
    own, theirs = dict(averaged.named_modules()), dict(module.named_modules())
    if own.keys() != theirs.keys():
        name = min(own.keys() ^ theirs.keys())
        raise ValueError(f"{_SAME_PARAMETERS}, got another part {name!r}; {_ADVICE}")
    for name, part in theirs.items():
        mine = own[name]
        mine._buffers = {key: _followed(mine._buffers.get(key), buffer) for key, buffer in part._buffers.items()}
        mine._non_persistent_buffers_set = set(part._non_persistent_buffers_set)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for buffer in averaged.buffers():
            torch.distributed.broadcast(buffer, src=0)


def _followed(held: Tensor | None, buffer: Tensor | None) -> Tensor | None:
    """Write a buffer over the one that is held, in whose dtype it is kept, where the two are alike."""
    if buffer is None or held is None:
        return None if buffer is None else buffer.detach().clone()
    alike = (held.shape, held.is_floating_point()) == (buffer.shape, buffer.is_floating_point())
    return held.copy_(buffer) if alike else buffer.detach().clone()


def _persistent_buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, part in module.named_modules():
        for key, buffer in part._buffers.items():
            if buffer is not None and key not in part._non_persistent_buffers_set:
                yield f"{name}.{key}" if name else key, buffer


def teacher_from_checkpoint(module: nn.Module, path: str) -> FrozenTeacher:
    """Make a teacher of an earlier run of the same module: the paper's own way for Table 1."""
    check_gives_logits(module)
    check_whole(module)
    return FrozenTeacher(load_checkpoint(copy_of(module), path))


def check_gives_logits(module: nn.Module) -> None:
    """Refuse a LightningModule without a `forward`, which could not teach."""
    if getattr(type(module).forward, "__module__", "").endswith(("core.module", "nn.modules.module")):
        raise ValueError(
            f"expected {type(module).__name__} to define forward(images) and give logits from it, as a teacher made of "
            "the module itself needs; define it, or give a teacher of another kind"
        )


def check_keeps_parameters(callbacks: Iterable[Any]) -> None:
    """Refuse Lightning's pruning, before time is spent: it gives parameters other names while the module trains."""
    if any(base.__name__ == "ModelPruning" for callback in callbacks for base in type(callback).__mro__):
        raise ValueError(f"{_SAME_PARAMETERS}, got the callback ModelPruning; {_ADVICE}")


def check_whole(module: nn.Module, strategy: str = "") -> None:
    """Refuse a module whose weights are spread over ranks, or will be by a class of strategies."""
    spread = any(hasattr(weight, "full_tensor") for weight in module.parameters())
    if strategy in SHARDING or spread:
        raise ValueError(
            f"expected a module whose weights every rank holds, got one that {strategy or 'its strategy'} shards: a "
            "teacher made of the module itself needs whole weights; train with DDP, or give a trained teacher"
        )
