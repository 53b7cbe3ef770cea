"""Whether mixes do what they are for is judged once, over some hundred batches that are not the first."""

import dataclasses

import pytest
import torch

from supermix_pl import MixedBatch, MixUp
from supermix_pl.solver import Outcome
from supermix_pl.trainer.advice import _FIRST, _LAST, Success
from tests.problems import NUM_CLASSES, natural_images

MIX = MixUp(num_classes=NUM_CLASSES)(None, natural_images(10), torch.arange(10) % NUM_CLASSES, seed=0)


def mix_of(good: int, *, holds: bool) -> MixedBatch:
    """So many of ten mixes hold, or are solved where nothing tells whether they hold."""
    flags = torch.arange(10) < good
    outcomes = torch.where(flags, int(Outcome.SOLVED), int(Outcome.CAPPED))
    if holds:  # what was solved on the way does not count then
        return dataclasses.replace(MIX, holds=flags, outcomes=torch.zeros_like(outcomes))
    return dataclasses.replace(MIX, holds=None, outcomes=outcomes)


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize(("good", "low"), [(0, True), (1, True), (3, False), (9, False)])
def test_too_few_are_told_once(good: int, low: bool, holds: bool) -> None:
    success = Success()
    mix = mix_of(good, holds=holds)
    told = [success.is_low(mix) for _ in range(2 * _LAST)]
    assert told == [low and number == _LAST - 1 for number in range(2 * _LAST)]
    assert success.share == pytest.approx(good / 10, rel=1e-4)


def test_the_first_batches_do_not_count() -> None:
    good, bad = mix_of(10, holds=True), mix_of(1, holds=True)
    success, early = Success(), Success()
    told = [success.is_low(good if number < _FIRST else bad) for number in range(2 * _LAST)]
    assert told.index(True) == _LAST - 1
    assert not any(early.is_low(bad if number < _FIRST else good) for number in range(2 * _LAST))
    assert early.share == 1.0


def test_the_mean_over_batches_decides() -> None:
    success, mixes = Success(), [mix_of(0, holds=True), mix_of(5, holds=True)]
    assert not any(success.is_low(mixes[number % 2]) for number in range(2 * _LAST))
    assert success.share == pytest.approx(0.25, rel=1e-4)
