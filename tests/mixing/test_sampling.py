"""Who is mixed with whom, and with which weights."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supermix_pl.mixing.sampling import Pairing, choose_sources, draw_keys, draw_sources, draw_weights
from tests.problems import repeatable


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(
    classes=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    k=st.integers(1, 12),
    pairing=st.sampled_from(["shift", "random", "distinct"]),
    seed=st.integers(0, 99),
)
@repeatable
def test_every_image_leads_one_set_and_no_image_is_twice_in_one(
    classes: list[int], k: int, pairing: Pairing, seed: int
) -> None:
    k = min(k, len(classes))
    sources = draw_sources(generator(seed), len(classes), k, pairing, np.array(classes))
    assert sources.shape == (len(classes), k)
    assert sources[:, 0].tolist() == list(range(len(classes)))
    assert all(len(set(row)) == k for row in sources.tolist())
    assert sources.min() >= 0
    assert sources.max() < len(classes)


def test_shift_takes_the_next_images() -> None:
    expected = [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 0], [4, 0, 1]]
    assert draw_sources(generator(), 5, 3, "shift").tolist() == expected


@pytest.mark.parametrize("k", [2, 3, 7])
def test_random_uses_every_image_equally_often(k: int) -> None:
    sources = draw_sources(generator(), 7, k, "random")
    assert set(Counter(sources.flatten().tolist()).values()) == {k}


def test_random_partners_are_uniform_and_change_with_the_generator() -> None:
    chance = generator()
    draws = np.stack([draw_sources(chance, 5, 2, "random")[:, 1] for _ in range(2000)])
    for image in range(5):
        counts = np.bincount(draws[:, image], minlength=5)
        assert counts[image] == 0
        assert abs(np.delete(counts, image) - 500).max() < 100  # 5 standard deviations


@given(classes=st.lists(st.integers(0, 5), min_size=2, max_size=14), k=st.integers(2, 6), seed=st.integers(0, 99))
@repeatable
def test_distinct_has_as_many_classes_as_the_batch_allows(classes: list[int], k: int, seed: int) -> None:
    k = min(k, len(classes))
    sources = draw_sources(generator(seed), len(classes), k, "distinct", np.array(classes))
    for row in sources:
        assert len({classes[image] for image in row}) == min(k, len(set(classes)))


def test_distinct_partners_are_uniform_among_other_classes() -> None:
    chance, classes = generator(), np.array([0, 0, 1, 2, 2])
    partners = [draw_sources(chance, 5, 2, "distinct", classes)[0, 1] for _ in range(3000)]
    counts = np.bincount(partners, minlength=5)
    assert counts[:2].tolist() == [0, 0]
    assert abs(counts[2:] - 1000).max() < 130  # 5 standard deviations


def test_distinct_needs_classes() -> None:
    with pytest.raises(ValueError, match="expected the classes of the images"):
        draw_sources(generator(), 4, 2, "distinct")


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_weights_have_the_mean_and_variance_of_the_dirichlet_distribution(k: int, alpha: float) -> None:
    weights = draw_weights(generator(), 20000, k, alpha)
    variance = (k - 1) / (k**2 * (k * alpha + 1))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(weights.mean(axis=0), 1 / k, atol=5 * (variance / 20000) ** 0.5)
    np.testing.assert_allclose(weights.var(axis=0), variance, rtol=0.06)
    covariance = np.cov(weights[:, 0], weights[:, 1])[0, 1]
    np.testing.assert_allclose(covariance, -variance / (k - 1), rtol=0.1)


@given(alpha=st.floats(1e-12, 1e12), k=st.integers(1, 6), seed=st.integers(0, 9))
@repeatable
def test_weights_are_shares_for_any_concentration(alpha: float, k: int, seed: int) -> None:
    weights = draw_weights(generator(seed), 20, k, alpha)
    assert weights.shape == (20, k)
    assert ((weights >= 0) & (weights <= 1)).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


# On the device, among many images


@given(
    classes=st.lists(st.integers(0, 5), min_size=1, max_size=14),
    k=st.integers(1, 6),
    distinct=st.booleans(),
    seed=st.integers(0, 99),
)
@repeatable
def test_chosen_sources_are_images_of_low_rank_and_of_as_many_classes_as_there_are(
    classes: list[int], k: int, distinct: bool, seed: int
) -> None:
    k = min(k, len(classes))
    ranks = torch.from_numpy(generator(seed).random((7, len(classes)), dtype=np.float32))
    chosen = choose_sources(ranks.clone(), torch.tensor(classes) if distinct else None, k)
    assert chosen.shape == (7, k)
    for row, own in zip(chosen.tolist(), ranks.tolist(), strict=True):
        assert len(set(row)) == k
        order = sorted(range(len(classes)), key=lambda image: own[image])
        if not distinct:
            assert row == order[:k]
            continue
        assert row[0] == order[0]
        assert len({classes[image] for image in row}) == min(k, len(set(classes)))
        for place in range(1, min(k, len(set(classes)))):  # the lowest of a new class
            seen = {classes[image] for image in row[:place]}
            assert row[place] == next(image for image in order if classes[image] not in seen)


def test_keys_name_different_streams() -> None:
    keys = draw_keys(generator(), 1000)
    assert len(set(keys.tolist())) == 1000
    assert keys.min() >= 0
    assert draw_keys(generator(1), 1000).tolist() != keys.tolist()
