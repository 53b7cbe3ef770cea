"""The solver's peak memory against that of one bare forward and input gradient of the batch."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import torch
from jaxtyping import Float
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench.passes import bare_pass
from supermix_pl.experiments.bench.subject import Subject
from supermix_pl.experiments.bench.tables import Table, Target

TARGET = Target(what="ratio", limit=1.2)

STEPS = 10
"""Of the solver whose peak is measured."""

_MEMORY_EVENT = "[memory]"
_NOTES = (
    (
        "Peak of the memory that tensors hold, weights and batch included: on CUDA `max_memory_allocated`; on CPU the "
        "running sum of the profiler's allocation events, each in a fresh process. What the libraries allocate by "
        "themselves is in neither."
    ),
    f"The solver stops after {STEPS} steps: batches only shrink, so its peak is in the first.",
)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peaks in bytes for a batch size."""

    batch_size: int
    solver_bytes: int
    bare_bytes: int

    @property
    def ratio(self) -> float:
        """How much more the solver needs than one pass."""
        return self.solver_bytes / self.bare_bytes


def peak_in_child(subject: Subject, batch_size: int, mixer: SuperMix | None, *, threads: int, seed: int) -> int:
    """Measure a peak on the CPU, in a fresh process.

    Args:
        subject: Teacher and images.
        batch_size: How many of the images.
        mixer: What solves them; None for one bare pass.
        threads: Of the child.
        seed: For the mixer.

    Raises:
        RuntimeError: If the child ended before it answered.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_cpu_peak, subject, batch_size, mixer, threads, seed).result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "expected a peak from the child process, but it was killed, probably for want of memory; lower "
                "--batch-sizes"
            ) from error


def _cpu_peak(subject: Subject, batch_size: int, mixer: SuperMix | None, threads: int, seed: int) -> int:
    torch.set_num_threads(threads)
    teacher, images = subject.open(torch.device("cpu"))
    return peak_here(teacher, images[:batch_size].clone(), mixer, seed=seed)


def peak_here(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"], mixer: SuperMix | None, *, seed: int) -> int:
    """Measure a peak in this process.

    Args:
        teacher: On the device of the images.
        images: A batch whose storage holds nothing else.
        mixer: What solves them; None for one bare pass.
        seed: For the mixer.
    """
    if images.is_cuda:
        return cuda_peak(teacher, images, mixer, seed=seed)
    return held_bytes(teacher, images) + profiled_peak(lambda: _run(teacher, images, mixer, seed))


def cuda_peak(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"], mixer: SuperMix | None, *, seed: int) -> int:
    """Measure a peak on the GPU, after a small run of both that makes the libraries allocate what they keep.

    Args:
        teacher: On that GPU.
        images: On it too, and nothing else beside them.
        mixer: What solves them; None for one bare pass.
        seed: For the mixer.
    """
    _run(teacher, images[:1], None, seed)
    _run(teacher, images[:1], SuperMix(k=1, max_steps=1), seed)
    torch.cuda.synchronize(images.device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(images.device)
    _run(teacher, images, mixer, seed)
    torch.cuda.synchronize(images.device)
    return torch.cuda.max_memory_allocated(images.device)


def _run(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"], mixer: SuperMix | None, seed: int) -> None:
    if mixer is None:
        bare_pass(teacher.network(images), images, graph=True, backward=True)
    else:
        mixer(teacher, images, seed=seed)


def held_bytes(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"]) -> int:
    """Count what was allocated before a measurement began: weights, buffers, the teacher's copy of them, the batch."""
    modules = {teacher.module, teacher.network(images)}
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return sum(tensor.untyped_storage().nbytes() for tensor in (*tensors, images))


def profiled_peak(function: Callable[[], None]) -> int:
    """Give the largest amount of CPU memory that a function holds at a time, beside what it was given."""
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


def table(results: Sequence[Memory]) -> Table:
    """Lay the batch sizes out, with their targets."""
    rows = [
        (
            f"batch of {result.batch_size}",
            f"{result.solver_bytes / 2**20:.1f}",
            f"{result.bare_bytes / 2**20:.1f}",
            f"{result.ratio:.3f}",
            TARGET.verdict(result.ratio),
        )
        for result in results
    ]
    columns = ("peak memory", "solver MiB", "bare forward and gradient MiB", "ratio", "target")
    return Table(title="Peak memory against one bare pass", columns=columns, rows=rows, notes=_NOTES)
