"""Rows that push the oldest out, and the images kept so."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supermix_pl.engine.stream.images import ImageStore, image_bytes
from supermix_pl.engine.stream.ring import Ring
from tests.problems import natural_images, repeatable

CPU = torch.device("cpu")


def rows(first: int, count: int) -> dict[str, torch.Tensor | np.ndarray]:
    numbers = torch.arange(first, first + count)
    return {"number": numbers, "pair": torch.stack([numbers, -numbers], dim=1).half(), "host": numbers.numpy() * 10}


@given(capacity=st.integers(1, 12), counts=st.lists(st.integers(0, 9), max_size=12), saved_at=st.integers(0, 12))
@repeatable
def test_the_newest_rows_are_there(capacity: int, counts: list[int], saved_at: int) -> None:
    ring, arrived = Ring(capacity), list[int]()
    for step, count in enumerate([1, *counts]):
        if step == saved_at:
            tensors = {name: value.clone() for name, value in ring.tensors().items()}
            ring = Ring.from_tensors(tensors, CPU, ("host",))
        count = min(count, capacity)
        ring.add(rows(len(arrived), count))
        arrived += range(len(arrived), len(arrived) + count)
        held = arrived[-capacity:]
        assert len(ring) == len(held)
        assert ring.added == len(arrived)
        for number in held:
            place = number % capacity
            assert ring.columns["number"][place] == number
            assert ring.columns["pair"][place].tolist() == [number, -number]
            assert ring.columns["host"][place] == 10 * number
        for wanted in (0, 1, 3, capacity, 2 * capacity):
            newest = ring.newest(wanted)
            assert ring.columns["number"][newest].tolist() == (held[-wanted:] if wanted else [])
    assert isinstance(ring.columns["host"], np.ndarray)
    assert ring.columns["pair"].dtype == torch.float16


def test_more_rows_than_there_is_room_for() -> None:
    ring = Ring(4)
    ring.add(rows(0, 9))
    assert sorted(ring.columns["number"].tolist()) == [5, 6, 7, 8]
    assert len(ring) == ring.added == 4


def test_it_grows_as_it_fills_and_no_further_than_its_capacity() -> None:
    ring, sizes = Ring(1000), list[int]()
    for step in range(40):
        ring.add({"value": torch.zeros(50, dtype=torch.uint8)})
        sizes.append(ring.num_bytes)
        assert ring.num_bytes >= len(ring)
        assert len(ring) == min(50 * (step + 1), 1000)
    assert sizes[0] < 300
    assert sizes == sorted(sizes)
    assert sizes[-1] == 1000
    assert len(set(sizes)) <= 4  # not in every step


def test_what_is_given_to_be_saved_is_what_is_there() -> None:
    ring = Ring(1000)
    ring.add(rows(0, 5))
    tensors = ring.tensors()
    assert tensors["number"].shape == (5,)
    assert tensors["counts"].tolist() == [1000, 5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_are_kept_in_8_bits_each_once(dtype: torch.dtype) -> None:
    images = natural_images(10, (6, 8), dtype=dtype)
    store = ImageStore(6)
    store.add(images[:7], torch.arange(7))
    store.add(images[7:], torch.arange(7, 10))
    places = torch.tensor([[0, 3], [5, 2]])
    numbers = store.classes(places)
    assert sorted(store.classes(torch.arange(6)).tolist()) == [4, 5, 6, 7, 8, 9]
    found = store.at(places)
    assert found.dtype == dtype
    span = images.amax(dim=(2, 3)) - images.amin(dim=(2, 3))
    error = (found - images[numbers]).abs().amax(dim=(3, 4))
    assert (error <= span[numbers] / 255 * 0.51).all()
    assert store.ring.columns["levels"].dtype == torch.uint8
    assert store.ring.num_bytes == 6 * image_bytes(images)
