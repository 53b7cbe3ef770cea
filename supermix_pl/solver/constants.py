"""Matrices that depend on sizes alone, made once."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

import torch
from torch import Tensor

S = TypeVar("S", int, float)


def constant(make: Callable[[int, S, torch.device], Tensor]) -> Callable[[int, S, torch.device, torch.dtype], Tensor]:
    """Make each matrix once, on the CPU, and keep it; what is compiled makes it on its device, as it keeps nothing."""

    @lru_cache(maxsize=64)
    @torch.inference_mode(False)
    def made(length: int, other: S, device: torch.device, dtype: torch.dtype) -> Tensor:
        return make(length, other, torch.device("cpu")).to(device, dtype)

    @wraps(make)
    def made_once(length: int, other: S, device: torch.device, dtype: torch.dtype) -> Tensor:
        return (
            make(length, other, device).to(dtype)
            if torch.compiler.is_compiling()
            else made(length, other, device, dtype)
        )

    return made_once
