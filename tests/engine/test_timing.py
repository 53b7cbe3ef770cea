"""Times of a stream's parts, on a teacher whose passes take as long as they are told to."""

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.engine.pool import Pool, PoolDtype
from supermix_pl.engine.timing import sample
from tests.problems import SmoothTeacher, natural_images

SECONDS = 0.01


class Slow(nn.Module):
    """Takes SECONDS for every image that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = SmoothTeacher()

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(SECONDS * len(images))
        return self.inner(images)


class SlowPool(Pool):
    """Takes 0.07 s to draw; nothing is added once it has some."""

    def draw(self, rng: np.random.Generator, images: Tensor) -> Any:
        time.sleep(0.07)
        return super().draw(rng, images)

    def add(self, mix: MixedBatch, step: int) -> None:
        assert not len(self)
        super().add(mix, step)


def pool_of(images: Tensor, dtype: PoolDtype = "uint8") -> Pool:
    pool = SlowPool(2**20, dtype, None)
    pool.add(SuperMix(mask_size=4, max_steps=1)(SmoothTeacher(), images, seed=0), 0)
    return pool


@pytest.mark.parametrize(("pairing", "looked_of_few", "looked_of_many"), [("shift", 5, 16), ("distinct", 16, 16)])
@pytest.mark.parametrize("on_unsolved", ["keep", "mixup"])
def test_every_part_is_timed_by_itself(pairing: Any, looked_of_few: int, looked_of_many: int, on_unsolved: Any) -> None:
    teacher = FrozenTeacher(Slow(), fold=False)
    mixer = SuperMix(k=2, mask_size=4, pairing=pairing, on_unsolved=on_unsolved)
    found = sample(mixer, teacher, natural_images(16), None, pool=pool_of(natural_images(16)))
    assert (found.few, found.many) == (4, 16)
    parts = {"round_of_few": 4, "round_of_many": 16}
    parts |= {"exchange_of_few": looked_of_few, "exchange_of_many": looked_of_many}
    for name, images in parts.items():
        assert SECONDS * images <= getattr(found, name) < SECONDS * images + 0.2, name
    assert 0.07 <= found.draw < 0.2


def test_a_small_batch_has_rounds_of_one_size() -> None:
    images, teacher = natural_images(3), FrozenTeacher(SmoothTeacher())
    found = sample(SuperMix(k=3, mask_size=4), teacher, images, None, pool=pool_of(images))
    assert (found.few, found.many) == (3, 3)
    assert min(found.round_of_few, found.round_of_many, found.exchange_of_few, found.exchange_of_many) > 0
    assert torch.is_grad_enabled()


def test_mixes_of_a_batch_in_half_precision_fit_as_they_do_in_the_pool() -> None:
    images = natural_images(4).bfloat16()
    pool = pool_of(images, "batch")
    mixer = SuperMix(k=1, mask_size=4, max_steps=1)
    found = sample(mixer, FrozenTeacher(SmoothTeacher()), images, None, pool=pool)
    assert found.exchange_of_few > 0
    assert pool.like(3).capacity == 0
    like = pool.like(3)
    like.add(SuperMix(mask_size=4, max_steps=1)(SmoothTeacher(), images, seed=0), 0)
    assert (len(like), like.capacity) == (3, 3)
