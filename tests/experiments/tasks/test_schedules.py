"""Schedules against their formulas."""

import math

import pytest
import torch

from supermix_pl.experiments.tasks.schedules import constant, cosine, linear, multistep


def rates(schedule, steps: int, **arguments) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, total_steps=steps, **arguments)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_constant_keeps_the_rate() -> None:
    assert rates(constant, 4) == [1.0] * 4


def test_cosine_falls_to_zero_along_half_a_cosine() -> None:
    assert rates(cosine, 4) == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)])


def test_linear_rises_then_falls() -> None:
    assert rates(linear, 8, warmup=0.25) == pytest.approx([0.5, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_multistep_drops_at_shares_of_the_training() -> None:
    assert rates(multistep, 8, milestones=[0.5, 0.75], gamma=0.1) == pytest.approx([1] * 4 + [0.1] * 2 + [0.01] * 2)


def test_multistep_counts_its_milestones_from_the_first_step_also_with_a_warm_up() -> None:
    found = rates(multistep, 8, milestones=[0.5], gamma=0.1, warmup=0.25)
    assert found == pytest.approx([0.5, 1, 1, 1, 0.1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"milestones": [0.5, 150]}, r"expected milestones as shares of the training in \(0, 1\), got 150; divide"),
        ({"milestones": [-1.0]}, r"expected milestones as shares of the training in \(0, 1\), got -1.0"),
        ({"milestones": 5}, r"expected milestones as a list of shares of the training in \(0, 1\), got 5"),
        ({"gamma": -1.0}, "expected gamma > 0, got -1.0"),
    ],
)
def test_multistep_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rates(multistep, 4, **arguments)


def test_a_warm_up_of_the_whole_training_is_refused() -> None:
    with pytest.raises(ValueError, match="expected warmup in"):
        rates(cosine, 4, warmup=1.0)
