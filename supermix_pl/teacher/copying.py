"""Copies of modules that are being trained, for a teacher made of the module itself."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_COMPILED_STEPS = ("forward", "training_step", "validation_step", "test_step", "predict_step")
_PLAIN = (int, float, str, bool, bytes, type(None), type, FunctionType, MethodType, ModuleType)


def copy_of(module: nn.Module) -> nn.Module:
    """Copy a module that a trainer may hold, as it was before any compilation and without trainer and callbacks.

    A copy of weights in float16 has them in float32. Tensors that hang on a graph are copied without it. What cannot be
    copied and holds nothing else, such as a lock or a generator, is shared.

    Raises:
        ValueError: If the module holds something that cannot be copied.
    """
    scripted = [name for name, part in module.named_modules() if isinstance(part, torch.jit.ScriptModule)]
    if scripted:
        raise ValueError(
            f"expected a module without TorchScript programs for a teacher made of the module itself, got "
            f"{scripted[0]!r}, whose copies share its graph; give the network that it was made of, or a teacher of "
            "another kind"
        )
    children = {id(child) for child in module.children()}
    callbacks = [value for value in vars(module).values() if hasattr(value, "on_train_batch_start")]
    left_out = [value for value in callbacks if id(value) not in children]
    left_out += [value for value in (getattr(module, "_trainer", None),) if value is not None]
    memo: dict[int, Any] = {id(value): None for value in left_out}
    memo |= _stand_ins(module, set(memo))
    try:
        copied = copy.deepcopy(module, memo)
    except Exception as error:  # of any code that the module holds
        raise ValueError(
            f"expected {type(module).__name__} to be one that copy.deepcopy can copy, as a teacher made of the module "
            f"itself needs, got {type(error).__name__}: {error}; keep what cannot be copied out of the module's "
            "attributes, or give a teacher of another kind"
        ) from error
    if vars(copied).get("_compiler_ctx") is not None:
        for name in _COMPILED_STEPS:
            vars(copied).pop(name, None)
        vars(copied)["_compiler_ctx"] = None
    if any(weight.dtype == torch.float16 for weight in copied.parameters()):
        copied.float()  # input gradients underflow in float16
    return copied


def _stand_ins(module: nn.Module, seen: set[int]) -> dict[int, Any]:
    """Find what `deepcopy` would stumble over, and what takes its place in the copy, by identity."""
    found: dict[int, Any] = {}
    left: deque[Any] = deque([module])
    while left:
        value = left.pop()
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if not value.is_leaf:
                found[id(value)] = value.detach().clone()
        elif isinstance(value, Iterator):  # generators, files and iterators of data loaders
            found[id(value)] = value
        elif isinstance(value, Mapping):
            left.extend(value.values())
        elif isinstance(value, list | tuple | set | frozenset | deque):
            left.extend(value)
        elif hasattr(value, "__dict__"):
            left.extend(vars(value).values())
        elif not isinstance(value, Iterable) and not _can_be_copied(value):
            found[id(value)] = value
    return found


def _can_be_copied(value: Any) -> bool:
    try:
        copy.deepcopy(value)
    except Exception:  # of any code
        return False
    return True
