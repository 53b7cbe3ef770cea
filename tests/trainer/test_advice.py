"""Whether mixes do what they are for is judged once, over some hundred batches that are not the first."""

import dataclasses
import warnings
from collections.abc import Iterable

import pytest
import torch

from supermix_pl import MixedBatch, MixUp, StreamEngine, SuperMix
from supermix_pl.solver import Outcome
from supermix_pl.trainer.advice import _FIRST, _LAST, Advice
from tests.problems import NUM_CLASSES, natural_images

MIX = MixUp(num_classes=NUM_CLASSES)(None, natural_images(10), torch.arange(10) % NUM_CLASSES, seed=0)


def mix_of(good: int, *, holds: bool) -> MixedBatch:
    """So many of ten mixes hold, or are solved where nothing tells whether they hold."""
    flags, logits = torch.arange(10) < good, torch.zeros(10, NUM_CLASSES)
    outcomes = torch.where(flags, int(Outcome.SOLVED), int(Outcome.CAPPED))
    if holds:  # what was solved on the way does not count then
        return dataclasses.replace(MIX, teacher_logits=logits, holds=flags, outcomes=torch.zeros_like(outcomes))
    return dataclasses.replace(MIX, teacher_logits=logits, holds=None, outcomes=outcomes)


def told_of(mixes: Iterable[MixedBatch]) -> list[tuple[int, str]]:
    """Numbers of the batches at which a warning came, and the beginning of it."""
    advice, told = Advice(SuperMix(), StreamEngine(), 0), []
    for number, mix in enumerate(mixes):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            advice.judge_mixes(mix)
        told += [(number, str(warning.message)[:23]) for warning in caught]
    return told


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize(("good", "low"), [(0, True), (1, True), (3, False), (9, False)])
def test_too_few_are_told_once(good: int, low: bool, holds: bool) -> None:
    told = told_of([mix_of(good, holds=holds)] * (2 * _LAST))
    assert told == ([(_LAST - 1, f"Only {10 * good}% of the mixes show"[:23])] if low else [])


def test_the_first_batches_do_not_count() -> None:
    good, bad = mix_of(10, holds=True), mix_of(1, holds=True)
    numbers = range(2 * _LAST)
    assert [number for number, _ in told_of(good if number < _FIRST else bad for number in numbers)] == [_LAST - 1]
    assert told_of(bad if number < _FIRST else good for number in numbers) == []


def test_the_mean_over_batches_decides() -> None:
    mixes = [mix_of(0, holds=True), mix_of(5, holds=True)]
    assert told_of(mixes * _LAST) == []
    mixes = [mix_of(0, holds=True), mix_of(3, holds=True)]
    assert told_of(mixes * _LAST) == [(_LAST - 1, "Only 15% of the mixes s")]
