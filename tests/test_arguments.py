"""The checks of arguments: what they take beside plain numbers, and what they refuse."""

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from supermix_pl import CutMix, MixUp, OneOf, StreamEngine, SuperMix
from supermix_pl.arguments import (
    check_at_least,
    check_flag,
    check_positive,
    check_probability,
    check_size,
    check_statistics,
    check_transform,
)
from supermix_pl.transforms import RandomCropFlip, RandomResizedCropFlip

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_integers_of_any_make(value: Any) -> None:
    check_at_least("n", value, 3)


@pytest.mark.parametrize(
    ("whole", "real"),
    [
        (SuperMix(alpha=3, max_logit_step=2), SuperMix(alpha=3.0, max_logit_step=2.0)),
        (MixUp(alpha=1), MixUp(alpha=1.0)),
        (OneOf([MixUp(), CutMix()], weights=[1, 2]), OneOf([MixUp(), CutMix()], weights=[1.0, 2.0])),
        (StreamEngine(reuse=3), StreamEngine(reuse=3.0)),
        (StreamEngine(budget=1), StreamEngine(budget=1.0)),
        (RandomCropFlip(flip_probability=0), RandomCropFlip(flip_probability=0.0)),
        (RandomResizedCropFlip(flip_probability=1), RandomResizedCropFlip(flip_probability=1.0)),
    ],
)
def test_whole_numbers_are_the_same_settings(whole: Any, real: Any) -> None:
    assert repr(whole) == repr(real)


@pytest.mark.parametrize("value", [2, True, 3.0, "3", None, math.nan])
def test_no_integers(value: Any) -> None:
    with pytest.raises(ValueError, match="expected n to be an integer >= 3, got "):
        check_at_least("n", value, 3)


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), torch.tensor(0.5)])
def test_numbers_of_any_make(value: Any) -> None:
    check_positive("x", value)
    check_probability("x", value)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "1", True, None, torch.tensor([1.0])])
def test_no_positive_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match="expected x > 0, got "):
        check_positive("x", value)


@pytest.mark.parametrize("value", ["no", 1, 0, None])
def test_no_flags(value: Any) -> None:
    with pytest.raises(ValueError, match="expected f to be True or False, got "):
        check_flag("f", value)
    check_flag("f", np.bool_(True))


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor, OmegaConf.create])
def test_statistics_of_any_make(make: Any) -> None:
    check_statistics(make([0.5, 0.4]), make([0.2, 0.3]))


@pytest.mark.parametrize("make", [list, tuple, np.array, OmegaConf.create])
def test_sizes_of_any_make(make: Any) -> None:
    assert check_size("s", make([4, 5])) == (4, 5)
    mixer = SuperMix(mask_size=make([4, 5]))
    assert mixer == SuperMix(mask_size=(4, 5))
    assert repr(mixer) == repr(SuperMix(mask_size=(4, 5)))


@pytest.mark.parametrize("value", [4.0, None, "44", {4, 5}, {4: 4, 5: 5}, np.array(4), torch.tensor(4), [4]])
def test_no_sizes(value: Any) -> None:
    with pytest.raises(ValueError, match=r"expected s as a side or \(height, width\), got "):
        check_size("s", value)


def test_transforms() -> None:
    for transform in (lambda images: images, functools.partial(torch.flip, dims=[3]), nn.Identity()):
        check_transform("t", transform)
    for wrong in (nn.Identity, None, "flip"):
        with pytest.raises(TypeError, match="expected t to take and give images, got "):
            check_transform("t", wrong)
