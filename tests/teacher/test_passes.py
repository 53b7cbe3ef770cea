"""Some sets at a time: the same mixes, less memory, and a second chance after running out of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.solver import NewtonSmoothProjection, Solver, SolverState, advance
from supermix_pl.solver.driver import solve
from supermix_pl.solver.objective import paper_objective
from supermix_pl.teacher.passes import Chunks, bucket, fill_up, is_out_of_memory, joined
from tests.problems import NUM_CLASSES, Counting, SmoothTeacher, make_sets, natural_images, random_weights

SOLVER = Solver(
    objective=paper_objective(25.0),
    update_rule=NewtonSmoothProjection(),
    max_logit_step=None,
    min_steps=1,
    max_steps=8,
)
CPU_MESSAGE = "[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"
CUDA_ERROR = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
SAID = "the teacher ran out of memory with"


class Greedy(nn.Module):
    """Has memory for so many images at once, with a gradient or without; notes how many it was asked for."""

    def __init__(self, memory: int, *, error: Exception = CUDA_ERROR, only_with_gradient: bool = False) -> None:
        super().__init__()
        self.body = SmoothTeacher()
        self.memory, self.error, self.only_with_gradient = memory, error, only_with_gradient
        self.asked: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.asked.append(len(images))
        if len(images) > self.memory and (images.requires_grad or not self.only_with_gradient):
            raise self.error
        return self.body(images)


class GreedyBackwards(Greedy):
    """Runs out of memory in the gradient."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.body(images)
        if logits.requires_grad:
            self.asked.append(len(images))
            logits.register_hook(self.refuse)
        return logits

    def refuse(self, gradient: Tensor) -> None:
        if len(gradient) > self.memory:
            raise self.error


def assert_same(mix: MixedBatch, expected: MixedBatch) -> None:
    for name in ("images", "masks", "soft_targets", "teacher_logits", "natural_logits"):
        torch.testing.assert_close(getattr(mix, name), getattr(expected, name), rtol=1e-6, atol=1e-7)
    for name in ("source_indices", "outcomes", "num_steps"):
        assert getattr(mix, name).equal(getattr(expected, name))


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "three sources": {"k": 3},
    "saliency": {"init": "saliency"},
    "labels and saliency": {"init": "saliency", "classes": "labels"},
    "mixup": {"on_unsolved": "mixup", "max_steps": 2},
    "no steps": {"min_steps": 0},
}


def mixer_of(name: str, **more: Any) -> SuperMix:
    options: dict[str, Any] = {"mask_size": 4, "max_steps": 8, **OPTIONS[name], **more}
    return SuperMix(**options)


# Chunks that were asked for


@pytest.mark.parametrize("chunk_size", [1, 4, 5, 10, 64])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_chunk_size_does_not_change_the_mixes(name: str, chunk_size: int) -> None:
    images, labels = natural_images(10), torch.arange(10) % 6
    expected = mixer_of(name)(FrozenTeacher(SmoothTeacher()), images, labels, seed=3)
    module = Greedy(chunk_size)
    counting = Counting(module)
    mix = mixer_of(name, chunk_size=chunk_size)(counting, images, labels, seed=3)
    assert_same(mix, expected)
    assert mix.teacher_forwards == expected.teacher_forwards == counting.forwards
    # The rounds in which no set of a chunk goes on need no gradient
    assert mix.teacher_backwards == counting.backwards <= expected.teacher_backwards
    assert max(module.asked) == min(chunk_size, 10)


@pytest.mark.parametrize("chunk_size", [0, -1])
def test_chunks_hold_a_set(chunk_size: int) -> None:
    with pytest.raises(ValueError, match=f"chunk_size.*{chunk_size}"):
        SuperMix(chunk_size=chunk_size)


def test_rounds_on_fixed_shapes() -> None:
    images = natural_images(9)
    members = (torch.arange(9)[:, None] + torch.arange(2)) % 9
    teacher = FrozenTeacher(SmoothTeacher())
    sets = make_sets(images[members], teacher(images).argmax(dim=1)[members], random_weights(9, 2))
    start = torch.zeros(9, 2, 4, 4).double()
    whole = parts = SolverState.start(start, NUM_CLASSES)
    for _ in range(SOLVER.max_steps + 1):
        whole, _, _ = advance(SOLVER, teacher, sets, whole)
        parts, _, _ = advance(SOLVER, teacher, sets, parts, chunks=Chunks(teacher, 4))
    assert not whole.running.any()
    solution = solve(SOLVER, teacher, sets, start)
    for state in (whole, parts):
        assert state.outcomes.equal(solution.outcomes)
        assert state.num_steps.equal(solution.num_steps)
        torch.testing.assert_close(state.best_mask_logits, solution.mask_logits, rtol=1e-6, atol=1e-7)


def test_outputs_are_joined_where_all_are_there() -> None:
    whole = joined([torch.zeros(2, 3), torch.ones(1, 3, dtype=torch.float64)])
    assert whole is not None
    assert (whole.tolist(), whole.dtype) == ([[0.0] * 3, [0.0] * 3, [1.0] * 3], torch.float32)
    assert joined([]) is None
    assert joined([torch.zeros(2, 3), None]) is None


# Running out of memory


@pytest.mark.parametrize("error", [CUDA_ERROR, pytest.param(RuntimeError(CPU_MESSAGE), marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in ("labels and saliency", "mixup"))) for name in OPTIONS],
)
def test_a_batch_is_complete_although_memory_ran_out(name: str, error: Exception) -> None:
    images, labels = natural_images(10), torch.arange(10) % 6
    expected = mixer_of(name)(FrozenTeacher(SmoothTeacher()), images, labels, seed=3)
    module = Greedy(5, error=error)
    with pytest.warns(UserWarning, match=f"{SAID} 10 images at once: it sees 5 .* chunk_size of the mixer") as said:
        mix = mixer_of(name)(module, images, labels, seed=3)
    assert len(said) == 1
    assert_same(mix, expected)
    assert mix.teacher_forwards == expected.teacher_forwards
    assert module.asked.count(10) == 1
    assert max(module.asked[module.asked.index(10) + 1 :]) == 5


@pytest.mark.parametrize("make", [lambda: Greedy(5, only_with_gradient=True), lambda: GreedyBackwards(5)])
def test_memory_runs_out_in_the_middle_of_a_solve(make: Callable[[], Greedy]) -> None:
    images, module = natural_images(10), make()
    expected = mixer_of("default")(FrozenTeacher(SmoothTeacher()), images, seed=3)
    with pytest.warns(UserWarning, match=f"{SAID} 10 images at once: it sees 5"):
        mix = mixer_of("default")(module, images, seed=3)
    assert_same(mix, expected)
    assert mix.teacher_forwards == expected.teacher_forwards


def test_the_rest_of_the_run_keeps_the_smaller_chunk_and_says_no_more() -> None:
    module = Greedy(5)
    teacher = FrozenTeacher(module)
    with pytest.warns(UserWarning, match=SAID):
        mixer_of("default")(teacher, natural_images(10), seed=0)
    module.asked.clear()
    mixer_of("three sources")(teacher, natural_images(10, seed=1), seed=1)
    assert max(module.asked) == 5
    module.memory = 3  # others need more of it now
    mix = mixer_of("default")(teacher, natural_images(10, seed=2), seed=2)
    assert len(mix) == 10
    assert teacher.most_rows == 3


def test_odd_chunks_are_halved_upwards() -> None:
    module = Greedy(3)
    with pytest.warns(UserWarning, match=f"{SAID} 5 images at once: it sees 3"):
        mix = mixer_of("default", chunk_size=5)(module, natural_images(8), seed=0)
    assert len(mix) == 8
    assert sorted(set(module.asked))[-2:] == [3, 5]


@pytest.mark.filterwarnings(f"ignore:{SAID}")
def test_half_a_chunk_that_is_too_much_is_the_users_to_know() -> None:
    with pytest.raises(
        torch.OutOfMemoryError,
        match=r"ran out of memory also with 5 images at once \(CUDA out of memory.*chunk_size < 5, free memory",
    ):
        mixer_of("default")(Greedy(4), natural_images(10), seed=0)


def test_one_image_cannot_be_halved() -> None:
    with pytest.raises(torch.OutOfMemoryError, match=r"with one image .*, the least that chunk_size can ask for"):
        mixer_of("default", chunk_size=1)(Greedy(0), natural_images(4), seed=0)


def test_other_errors_are_not_retried() -> None:
    module = Greedy(0, error=RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(ValueError, match="the teacher failed on images of shape"):
        mixer_of("default")(module, natural_images(4), seed=0)
    assert module.asked == [4]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CUDA_ERROR, True),
        (RuntimeError(CPU_MESSAGE), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_the_cpu_allocators_own_words() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.float64)
    assert is_out_of_memory(caught.value)


# Few different numbers of images


def test_buckets() -> None:
    assert [bucket(rows, 24) for rows in range(1, 25)] == [1, 2, 4, 4] + [8] * 4 + [16] * 8 + [24] * 8
    images = natural_images(3)
    filled = fill_up(images, 5)
    assert filled[:3].equal(images)
    assert filled[3:].equal(images[2:].expand(2, -1, -1, -1))
    assert fill_up(images, 3) is images


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_static_shapes_change_no_mix_and_all_passes_count(chunk_size: int | None) -> None:
    images = natural_images(10)
    members = (torch.arange(10)[:, None] + torch.arange(2)) % 10
    teacher = FrozenTeacher(SmoothTeacher())
    sets = make_sets(images[members], teacher(images).argmax(dim=1)[members], random_weights(10, 2))
    start = torch.zeros(10, 2, 4, 4).double()
    expected = solve(SOLVER, teacher, sets, start)
    module = Greedy(10)
    counting = Counting(module)
    solution = solve(
        SOLVER, counting, sets, start, chunks=Chunks(FrozenTeacher(module), chunk_size), static_shapes=True
    )
    for name in ("outcomes", "num_steps"):
        assert getattr(solution, name).equal(getattr(expected, name))
    torch.testing.assert_close(solution.mask_logits, expected.mask_logits, rtol=1e-6, atol=1e-7)
    assert (solution.forwards, solution.backwards) == (counting.forwards, counting.backwards)
    assert set(module.asked) <= ({1, 2, 4, 8, 10} if chunk_size is None else {1, 2, 3})
    assert solution.forwards > expected.forwards or chunk_size
