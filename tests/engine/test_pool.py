"""The pool: what comes out is what went in, the oldest leave first, and it keeps within its bytes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from supermix_pl import MixedBatch
from supermix_pl.engine.pool import Pool
from supermix_pl.mixing.targets import soft_targets
from supermix_pl.solver import Outcome

NUM_CLASSES = 4
BATCH = torch.zeros(6, 3, 8, 8)


def mixes(count: int, first: int = 0, masks: bool = True) -> MixedBatch:
    """Mixes that can be told apart: mix i has images and logits around i."""
    number = torch.arange(first, first + count)
    weights = torch.tensor([0.25, 0.75]).repeat(count, 1)
    classes = torch.stack([number % NUM_CLASSES, (number + 1) % NUM_CLASSES], dim=1)
    shares = torch.full((count, 2, 8, 8), 0.5)
    shares[:, 0, :, :4], shares[:, 1, :, :4] = 0.9, 0.1
    return MixedBatch(
        images=number[:, None, None, None] + torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(first)),
        masks=shares if masks else torch.zeros(count, 2, 0, 0),
        soft_targets=soft_targets(classes, weights, NUM_CLASSES),
        teacher_logits=number[:, None] + torch.arange(4.0),
        source_indices=torch.zeros_like(classes),
        source_classes=classes,
        mix_weights=weights,
        outcomes=number % 2,
        num_steps=number,
        natural_logits=None,
        teacher_forwards=9,
        teacher_backwards=9,
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def numbers(mix: MixedBatch) -> list[int]:
    return mix.num_steps.tolist()


def test_what_comes_out_is_what_went_in() -> None:
    pool, given = Pool(2**20, "batch", None), mixes(20)
    pool.add(given, step=3)
    mix, born = pool.draw(rng(), BATCH)
    rows = mix.num_steps
    assert len(set(numbers(mix))) == 6
    assert born.tolist() == [3] * 6
    for name in ("images", "soft_targets", "teacher_logits", "source_classes", "mix_weights", "outcomes"):
        assert getattr(mix, name).equal(getattr(given, name)[rows]), name
    assert mix.source_indices.eq(-1).all()
    assert mix.masks.shape == (6, 2, 0, 0)
    assert (mix.natural_logits, mix.teacher_forwards, mix.teacher_backwards) == (None, 0, 0)
    assert mix.solved.equal(rows % 2 == Outcome.SOLVED)


def test_uint8_keeps_the_images_within_half_a_level() -> None:
    pool, given = Pool(2**20, "uint8", None), mixes(20)
    pool.add(given, step=0)
    mix, _ = pool.draw(rng(), BATCH)
    error = (mix.images - given.images[mix.num_steps]).abs()
    assert 1e-4 < error.max() <= 0.5 / 255 + 1e-6


def test_masks_are_kept_on_the_grid() -> None:
    pool = Pool(2**20, "uint8", (4, 4))
    pool.add(mixes(20), step=0)
    mix, _ = pool.draw(rng(), BATCH)
    torch.testing.assert_close(mix.masks.sum(dim=1), torch.ones(6, 8, 8), atol=1e-3, rtol=0)
    torch.testing.assert_close(mix.masks[:, 0, :, :3], torch.full((6, 8, 3), 0.9), atol=1e-3, rtol=0)
    torch.testing.assert_close(mix.masks[:, 0, :, 5:], torch.full((6, 8, 3), 0.5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", ["uint8", "batch"])
def test_oldest_first_out_within_the_bytes(dtype: str) -> None:
    limit = 20_000
    pool = Pool(limit, dtype, (4, 4))  # pyright: ignore[reportArgumentType]
    for step in range(30):
        pool.add(mixes(7, first=7 * step), step=step)
        assert pool.num_bytes <= limit
    assert pool.num_bytes > limit - limit // pool.capacity
    assert len(pool) == pool.capacity < 100
    mix, born = pool.draw(rng(), torch.zeros(len(pool), 3, 8, 8))
    assert sorted(numbers(mix)) == list(range(210 - pool.capacity, 210))
    assert born.tolist() == [number // 7 for number in numbers(mix)]


def test_more_at_once_than_it_holds_leaves_the_newest() -> None:
    small = Pool(20_000, "batch", None)
    small.add(mixes(1), step=0)
    many = small.capacity + 5
    small.add(mixes(many, first=1), step=1)
    mix, _ = small.draw(rng(), torch.zeros(small.capacity, 3, 8, 8))
    assert sorted(numbers(mix)) == list(range(many - small.capacity + 1, many + 1))


def test_draws_are_even_and_depend_on_the_seed_alone() -> None:
    pool = Pool(2**20, "batch", None)
    pool.add(mixes(12), step=0)
    assert numbers(pool.draw(rng(1), BATCH)[0]) == numbers(pool.draw(rng(1), BATCH)[0])
    assert numbers(pool.draw(rng(1), BATCH)[0]) != numbers(pool.draw(rng(2), BATCH)[0])
    one = rng(0)
    counts = np.bincount(np.concatenate([numbers(pool.draw(one, BATCH)[0]) for _ in range(600)]), minlength=12)
    assert (abs(counts - 300) < 5 * 300**0.5).all()
    assert pool.drawn == 600 * 6 + 4 * 6


def test_a_pool_smaller_than_a_batch_gives_some_twice() -> None:
    pool = Pool(2**20, "batch", None)
    pool.add(mixes(4), step=0)
    mix, _ = pool.draw(rng(), BATCH)
    assert len(mix) == 6
    assert set(numbers(mix)) <= set(range(4))


def test_dtype_and_memory_format_are_the_batch_s() -> None:
    pool = Pool(2**20, "uint8", None)
    pool.add(mixes(12), step=0)
    batch = BATCH.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    mix, _ = pool.draw(rng(), batch)
    assert mix.images.dtype == torch.bfloat16
    assert mix.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("count", [5, 60])
def test_saved_and_loaded_goes_on_alike(count: int) -> None:
    def filled() -> Pool:
        pool = Pool(20_000, "uint8", (4, 4))
        pool.add(mixes(count), step=1)
        pool.draw(rng(), BATCH)
        return pool

    pool, other = filled(), Pool(20_000, "uint8", None)
    other.load_tensors({name: value.clone() for name, value in pool.tensors().items()}, torch.device("cpu"))
    for one in (pool, other):
        one.add(mixes(9, first=100), step=2)
    first, second = (one.draw(rng(5), BATCH) for one in (pool, other))
    assert (pool.added, pool.drawn, len(pool)) == (other.added, other.drawn, len(other))
    assert first[1].tolist() == second[1].tolist()
    values: list[tuple[Tensor, Tensor]] = [
        (getattr(first[0], name), getattr(second[0], name))
        for name in ("images", "masks", "teacher_logits", "num_steps")
    ]
    assert all(one.equal(two) for one, two in values)


def test_a_pool_that_holds_no_mix_says_so() -> None:
    with pytest.raises(ValueError, match=r"at least one mix of 8.. bytes, got pool_bytes=100"):
        Pool(100, "batch", None).add(mixes(2), step=0)
