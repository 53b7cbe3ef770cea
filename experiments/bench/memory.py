"""The peak memory of a mixer's call, and of one bare forward and input gradient."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench.passes import bare_pass

MEANING = (
    "memory that tensors hold, weights and batch included; on CUDA max_memory_allocated, on the CPU the running sum of "
    "the profiler's allocation events."
)
_MEMORY_EVENT = "[memory]"


def peak_of(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"], mixer: SuperMix | None, *, seed: int) -> int:
    """Measure a peak in bytes.

    Args:
        teacher: On the device of the images.
        images: A batch whose storage holds nothing else.
        mixer: What solves them; None for one bare pass.
        seed: For the mixer.
    """
    if not images.is_cuda:
        return held_bytes(teacher, images) + profiled_peak(lambda: _run(teacher, images, mixer, seed))
    _run(teacher, images[:1], None, seed)  # the libraries allocate what they keep
    _run(teacher, images[:1], SuperMix(k=1, max_steps=1), seed)
    torch.cuda.synchronize(images.device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(images.device)
    _run(teacher, images, mixer, seed)
    torch.cuda.synchronize(images.device)
    return torch.cuda.max_memory_allocated(images.device)


def _run(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"], mixer: SuperMix | None, seed: int) -> None:
    if mixer is None:
        prepared = teacher.prepare(images)
        bare_pass(teacher.network(prepared), prepared, graph=True, backward=True)
    else:
        mixer(teacher, images, seed=seed)


def held_bytes(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"]) -> int:
    """Count what was allocated before a measurement began: weights, buffers, the teacher's copy of them, the batch."""
    modules = {teacher.module, teacher.network(teacher.prepare(images))}
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return sum(tensor.untyped_storage().nbytes() for tensor in (*tensors, images))


def profiled_peak(function: Callable[[], None]) -> int:
    """Return the largest amount of CPU memory that a function holds at a time, beside what it was given."""
    with (
        _quiet_profiler(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler,
    ):
        function()
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == _MEMORY_EVENT]
    changes = [(event.start_ns(), event.nbytes()) for event in events]  # pyright: ignore[reportAttributeAccessIssue]
    if not changes:
        raise RuntimeError("expected allocation events from the profiler, got none; this build of torch cannot tell")
    return peak(changes)


def peak(changes: Iterable[tuple[int, int]]) -> int:
    """Replay allocations: the largest running sum of changes, in the order of their times.

    Args:
        changes: Time, and bytes allocated, or freed if negative. Those of one time count in the order given.

    >>> peak([(3, -100), (1, 100), (2, 50), (4, 60)])
    150
    """
    held = most = 0
    for _, change in sorted(changes, key=lambda event: event[0]):
        held += change
        most = max(most, held)
    return most


@contextlib.contextmanager
def _quiet_profiler() -> Iterator[None]:
    """Keep the profiler from writing its own progress to the terminal."""
    before = os.environ.get("KINETO_LOG_LEVEL")
    os.environ["KINETO_LOG_LEVEL"] = "99"
    try:
        yield
    finally:
        if before is None:
            del os.environ["KINETO_LOG_LEVEL"]
        else:
            os.environ["KINETO_LOG_LEVEL"] = before
