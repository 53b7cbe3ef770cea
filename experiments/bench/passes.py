"""The teacher passes of a solver: recorded as it makes them, and replayed without it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl import FrozenTeacher

Result = TypeVar("Result")


@dataclass
class TeacherPass:
    """One call of the teacher.

    Args:
        rows: Images in it.
        graph: Whether it kept what a gradient needs.
        backward: Whether the gradient was then asked for.
    """

    rows: int
    graph: bool
    backward: bool = False


class RecordingTeacher(FrozenTeacher):
    """A teacher that notes its passes; give it one that takes images as they are.

    Args:
        teacher: Whose module, options and private copy it has.
    """

    def __init__(self, teacher: FrozenTeacher) -> None:
        super().__init__(teacher.module)
        self.__dict__.update(teacher.__dict__)
        self.passes: list[TeacherPass] = []

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Give the logits, and note the pass."""
        logits = super().__call__(images)
        made = TeacherPass(len(images), logits.requires_grad)
        self.passes.append(made)
        if made.graph:
            logits.register_hook(lambda _: setattr(made, "backward", True))
        return logits


def forwards(passes: Sequence[TeacherPass]) -> int:
    """Count the images passed forward."""
    return sum(made.rows for made in passes)


def backwards(passes: Sequence[TeacherPass]) -> int:
    """Count the rows of input gradients."""
    return sum(made.rows for made in passes if made.backward)


def replay(module: nn.Module, images: Float[Tensor, "n c h w"], passes: Sequence[TeacherPass]) -> None:
    """Make the same passes bare: module, sum of its logits, gradient with respect to the images.

    Args:
        module: The teacher's module.
        images: At least as many as the largest pass has.
        passes: What to repeat.
    """
    for made in passes:
        bare_pass(module, images[: made.rows], graph=made.graph, backward=made.backward)


def bare_pass(module: nn.Module, images: Float[Tensor, "n c h w"], *, graph: bool, backward: bool) -> None:
    """Make one pass; the logits' sum stands in for a loss."""
    with torch.set_grad_enabled(graph):
        inputs = images.detach().requires_grad_(graph)
        logits = module(inputs)
        if backward:
            torch.autograd.grad(getattr(logits, "logits", logits).sum(), inputs)


def timed(function: Callable[[], Result], device: torch.device) -> tuple[Result, float]:
    """Call a function; give its result and the seconds until the device had finished."""
    synchronize(device)
    start = time.perf_counter()
    result = function()
    synchronize(device)
    return result, time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait for what a device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
