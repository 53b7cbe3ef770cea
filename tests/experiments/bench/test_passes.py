"""Teacher passes, recorded and replayed."""

import pytest
import torch
from torch import nn

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench import passes
from supermix_pl.experiments.bench.passes import TeacherPass

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
        made = TeacherPass(len(images), torch.is_grad_enabled() and images.requires_grad, 0.0)
        self.noted.append(made)
        if made.graph:
            logits.register_hook(lambda _: setattr(made, "backward", True))
        return logits


def described(made: list[TeacherPass]) -> list[tuple[int, bool, bool]]:
    return [(one.rows, one.graph, one.backward) for one in made]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.mark.parametrize("name", MIXERS)
def test_replay_makes_the_passes_of_the_solver(name: str, images: torch.Tensor, witness: Witness) -> None:
    teacher = FrozenTeacher(witness, fold=False)
    with passes.recorded(teacher, images) as made:
        mix = MIXERS[name](teacher, images, seed=0)
    assert described(made) == described(witness.noted)
    assert sum(one.rows for one in made) == mix.teacher_forwards
    assert sum(one.rows for one in made if one.backward) == mix.teacher_backwards
    assert [one.end for one in made] == sorted(one.end for one in made)
    assert len({one.rows for one in made}) > 1, "the setting tests too little"
    teacher(images)
    assert len(made) == len(witness.noted) - 1, "after it nothing is noted"
    witness.noted.clear()
    passes.replay(witness, images, made)
    assert described(witness.noted) == described(made)


def test_a_folded_copy_is_recorded_too(images: torch.Tensor) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 6))
    teacher = FrozenTeacher(module)
    with passes.recorded(teacher, images) as made:
        mix = SuperMix(max_steps=2)(teacher, images, seed=0)
    assert sum(one.rows for one in made) == mix.teacher_forwards


def test_a_graph_without_a_backward_is_replayed_as_such(images: torch.Tensor, witness: Witness) -> None:
    witness.requires_grad_(False)
    script = [TeacherPass(5, False, 0.0), TeacherPass(3, True, 0.0), TeacherPass(2, True, 0.0, backward=True)]
    passes.replay(witness, images, script)
    assert described(witness.noted) == described(script)
    assert images.grad is None
    assert not images.requires_grad
