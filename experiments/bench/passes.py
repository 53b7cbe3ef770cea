"""Times: of a call, and of the teacher passes that it makes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl import FrozenTeacher

Outcome = TypeVar("Outcome")


@contextmanager
def pass_ends(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"]) -> Iterator[list[float]]:
    """Note when the device has made each pass of a teacher that is not compiled, in seconds."""
    ends: list[float] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        synchronize(inputs[0].device)
        ends.append(time.perf_counter())

    with teacher.network(teacher.prepare(images)).register_forward_hook(note):
        yield ends


def timed(function: Callable[[], Outcome], device: torch.device) -> tuple[Outcome, float]:
    """Call a function; return its result and the seconds until the device had finished."""
    synchronize(device)
    start = time.perf_counter()
    result = function()
    synchronize(device)
    return result, time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait for what a device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
