"""The cost of mixes."""

from typing import Any

import pytest
import torch

from supermix_pl import FrozenTeacher, MixUp, SuperMix
from supermix_pl.experiments.bench.cost import cost_of, mix_batches, numbers, total
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.transforms import RandomCropFlip
from tests.problems import Counting, SmoothTeacher, natural_images


def subject(teacher: FrozenTeacher) -> Subject:
    given: dict[str, Any] = {"class_names": ["a"] * 6, "mean": None, "std": None, "data": "toys", "network": "smooth"}
    images, labels = batches()[0]
    return Subject(teacher=teacher, images=images, labels=labels, supermix=SuperMix(), seed=0, **given)


def batches() -> list[Any]:
    return [(natural_images(8, seed=seed), torch.arange(8) % 6) for seed in range(2)]


@pytest.mark.parametrize(
    "mixer",
    [
        SuperMix(mask_size=4, max_steps=4),
        SuperMix.fast(mask_size=4, max_steps=3),
        SuperMix(init="saliency", max_steps=2),
    ],
)
def test_passes_are_those_of_the_teacher_less_the_labels_of_the_view(mixer: SuperMix) -> None:
    counting = Counting(SmoothTeacher())
    teacher = FrozenTeacher(counting, fold=False)
    found = mix_batches(mixer, subject(teacher), batches(), seed=5)
    assert found["forwards"] == counting.forwards - 16
    assert found["backwards"] == counting.backwards
    assert (found["sets"], found["seconds"] > 0) == (16, True)
    mixes = [
        mixer(FrozenTeacher(SmoothTeacher()), images, seed=(5, number), view=RandomCropFlip())
        for number, (images, _) in enumerate(batches())
    ]
    assert found["solved"] == sum(int(mix.solved.sum()) for mix in mixes)
    assert found["held"] == sum(int(mix.holds.sum()) for mix in mixes if mix.holds is not None)
    assert found["steps"] == sum(int(mix.num_steps.sum()) for mix in mixes)
    assert {**found, "seconds": 0} == total([cost_of(mix, 0) for mix in mixes])


def test_a_mixer_that_does_not_look_costs_a_pass() -> None:
    teacher = FrozenTeacher(SmoothTeacher())
    teacher(natural_images(1))  # from now on it knows how many classes there are
    found = mix_batches(MixUp(), subject(teacher), batches(), seed=0)
    assert (found["forwards"], found["backwards"]) == (16, 0)


def test_numbers_by_hand() -> None:
    cost = {"sets": 4, "solved": 2, "held": 3, "steps": 10, "forwards": 14, "backwards": 10, "seconds": 0.5}
    cost |= {"softness": 0.2, "roughness": 0.1, "softness_of_all": 0.4, "kept": 0}
    found = numbers(cost)
    assert (found["solved_fraction"], found["holds"], found["softness_of_all"]) == (0.5, 0.75, 0.1)
    assert (found["forwards_per_solved"], found["forwards_per_attempted"], found["saliency_kept"]) == (7, 3.5, None)
    assert (found["ms_per_solved"], found["ms_per_step"], found["mask_softness"]) == (250, 50, 0.1)
    nothing = numbers({**cost, "solved": 0, "steps": 0})
    assert [nothing[name] for name in ("steps_per_solved", "mask_softness", "ms_per_step")] == [None] * 3
    assert nothing["steps_per_attempted"] == 0
