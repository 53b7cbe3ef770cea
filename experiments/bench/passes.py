"""The teacher passes of a solver: recorded as it makes them, and replayed without it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl import FrozenTeacher

Outcome = TypeVar("Outcome")


@dataclass
class TeacherPass:
    """One call of the teacher's network."""

    rows: int  # images in it
    graph: bool  # whether it kept what a gradient needs
    end: float  # when the device had its logits, in seconds
    backward: bool = False  # whether the gradient was then asked for


@contextmanager
def recorded(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"]) -> Iterator[list[TeacherPass]]:
    """Note the passes of a teacher that are not compiled, each after its device has made it."""
    made: list[TeacherPass] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        logits = getattr(output, "logits", output)
        synchronize(logits.device)
        one = TeacherPass(len(inputs[0]), logits.requires_grad, time.perf_counter())
        made.append(one)
        if one.graph:
            logits.register_hook(lambda _: setattr(one, "backward", True))

    handle = teacher.network(teacher.prepare(images)).register_forward_hook(note)
    try:
        yield made
    finally:
        handle.remove()


def replay(module: nn.Module, images: Float[Tensor, "n c h w"], passes: Sequence[TeacherPass]) -> None:
    """Make the same passes bare: module, sum of its logits in place of a loss, gradient with respect to the images."""
    for made in passes:
        with torch.set_grad_enabled(made.graph):
            inputs = images[: made.rows].detach().requires_grad_(made.graph)
            logits = module(inputs)
            if made.backward:
                torch.autograd.grad(getattr(logits, "logits", logits).sum(), inputs)


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
