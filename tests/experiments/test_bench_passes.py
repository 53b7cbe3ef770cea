"""Teacher passes, recorded and replayed, and the memory that they take."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench import memory, passes, walltime
from supermix_pl.experiments.bench.passes import RecordingTeacher, TeacherPass
from supermix_pl.experiments.bench.subject import Subject

MIXERS = {
    "capped": SuperMix(max_steps=4),
    "solved early": SuperMix(objective="margin", max_logit_step=2.0, max_steps=50),
    "saliency": SuperMix(init="saliency", max_steps=4),
    "three sources": SuperMix(k=3, max_steps=4),
}


class Witness(nn.Module):
    """A small classifier that notes what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 25, 6))
        self.noted: list[TeacherPass] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = 5 * self.layers(images)
        made = TeacherPass(len(images), torch.is_grad_enabled() and images.requires_grad)
        self.noted.append(made)
        if made.graph:
            logits.register_hook(lambda _: setattr(made, "backward", True))
        return logits


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MIXERS)
def test_replay_makes_the_passes_of_the_solver(name: str, images: torch.Tensor) -> None:
    module = Witness()
    recording = RecordingTeacher(FrozenTeacher(module))
    mix = MIXERS[name](recording, images, seed=0)
    made, seen_by_module = recording.passes, list(module.noted)
    assert [asdict(one) for one in made] == [asdict(one) for one in seen_by_module]
    assert passes.forwards(made) == mix.teacher_forwards
    assert passes.backwards(made) == mix.teacher_backwards
    assert len({one.rows for one in made}) > 1, "the setting tests too little"
    module.noted.clear()
    passes.replay(module, images, made)
    assert [asdict(one) for one in module.noted] == [asdict(one) for one in made]


def test_a_graph_without_a_backward_is_replayed_as_such(images: torch.Tensor) -> None:
    module = Witness().requires_grad_(False)
    script = [TeacherPass(5, graph=False), TeacherPass(3, graph=True), TeacherPass(2, graph=True, backward=True)]
    passes.replay(module, images, script)
    assert [asdict(one) for one in module.noted] == [asdict(one) for one in script]
    assert images.grad is None
    assert not images.requires_grad


def test_pair_counts_what_the_solver_did(images: torch.Tensor) -> None:
    teacher = FrozenTeacher(Witness())
    mix = SuperMix(max_steps=3)(teacher, images, seed=4)
    pair = walltime.time_pair(SuperMix(max_steps=3), teacher, images, seed=4)
    assert (pair.forwards, pair.backwards) == (mix.teacher_forwards, mix.teacher_backwards)
    assert pair.calls == 5
    assert min(pair.solver_seconds, pair.bare_seconds) > 0
    walltime.warm_up(SuperMix(max_steps=3), teacher, images, seed=4)


def test_a_solver_that_miscounts_is_noticed(images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walltime, "forwards", lambda made: passes.forwards(made) + 1)
    with pytest.raises(RuntimeError, match="as the mix says"):
        walltime.time_pair(SuperMix(max_steps=3), FrozenTeacher(Witness()), images, seed=0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], 0),
        ([(0, 100)], 100),
        ([(0, 100), (1, -100), (2, 60)], 100),
        ([(0, 100), (1, 50), (2, -100), (3, 120)], 170),
        ([(2, -100), (0, 100), (3, 70), (1, 10)], 110),
        ([(5, 100), (5, -100), (5, 100)], 100),
        ([(0, -30), (1, 50)], 20),
    ],
)
def test_peak_of_a_list_of_events(changes: list[tuple[int, int]], expected: int) -> None:
    assert memory.peak(changes) == expected


@given(st.lists(st.integers(-1000, 1000)))
def test_peak_is_the_largest_prefix_sum(sizes: list[int]) -> None:
    expected = max(sum(sizes[:end]) for end in range(len(sizes) + 1))
    assert memory.peak(list(enumerate(sizes))) == expected
    assert memory.peak(list(enumerate(sizes))[::-1]) == expected


def test_profiled_peak_of_known_allocations() -> None:
    def allocate() -> None:
        first = torch.empty(3 << 20, dtype=torch.uint8)
        second = torch.empty(5 << 20, dtype=torch.uint8)
        del first
        third = torch.empty(2 << 20, dtype=torch.uint8)
        del second, third

    assert memory.profiled_peak(allocate) == 8 << 20


def test_held_bytes_are_weights_buffers_and_batch() -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
    weights = (4 * 5 + 5) + 2 * 5 + 2 * 5
    batch = torch.zeros(2, 3, 4, 4)
    assert memory.held_bytes(FrozenTeacher(module), batch) == 4 * weights + 8 + 4 * batch.numel()


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")  # as in the child: checks of shapes keep networks from being traced, and folded
def test_child_measures_what_this_process_does() -> None:
    subject = Subject(
        network="resnet8",
        checkpoint=None,
        data="shapes",
        split="test",
        num_images=8,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    teacher, images = subject.open(torch.device("cpu"))
    images = images[:6].clone()
    here = memory.held_bytes(teacher, images) + memory.profiled_peak(
        lambda: passes.bare_pass(teacher.network(images), images, graph=True, backward=True)
    )
    assert memory.peak_in_child(subject, 6, None, threads=1, seed=0) == here


def test_shards_are_opened_in_the_order_of_the_file(shared: Path) -> None:
    from supermix_pl.experiments.data import Parquet

    folder, mean, std = str(shared / "data" / "cifar100"), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    subject = Subject(network="resnet8", checkpoint=None, data=folder, split="test", num_images=5, mean=mean, std=std)
    data = Parquet(folder=folder, eval_batch_size=5, mean=mean, std=std)
    data.setup()
    expected = next(iter(data.test_dataloader()))[0]
    assert torch.equal(subject.open(torch.device("cpu"))[1], expected)
