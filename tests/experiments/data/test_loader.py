"""The resumable loader by itself: a pure function of (seed, epoch, sample), sharded, resumable."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supermix_pl.experiments.data import ArraySource, CropFlip, ResumableLoader
from supermix_pl.experiments.data.pixels import Normalisation

N = 30


def source(n: int = N) -> ArraySource:
    """Samples whose label is their index, so that a batch says which samples are in it."""
    images = np.random.default_rng(0).integers(0, 256, (n, 3, 6, 7), dtype=np.uint8)
    normalisation = Normalisation([0.5] * 3, [0.25] * 3)
    return ArraySource(images=images, labels=np.arange(n), normalisation=normalisation, augment=CropFlip(padding=2))


def loader(n: int = N, **changes) -> ResumableLoader:
    return ResumableLoader(source(n), **{"batch_size": 8, "seed": 3, **changes})


def epoch_of(loader: ResumableLoader, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader.set_epoch(epoch)
    return list(loader)


def views(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[int, torch.Tensor]:
    return {int(label): image for images, labels in batches for image, label in zip(images, labels, strict=True)}


def order(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[int]:
    return torch.cat([labels for _, labels in batches]).tolist()


def same(first: list[tuple[torch.Tensor, torch.Tensor]], second: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    tensors = zip(itertools.chain(*first), itertools.chain(*second), strict=True)
    return all(torch.equal(a, b) for a, b in tensors)


def test_evaluation_gives_normalised_images_in_order() -> None:
    data = source()
    images, labels = (torch.cat(part) for part in zip(*loader(shuffle=False, augment=False), strict=True))
    torch.testing.assert_close(images, (torch.from_numpy(data.images).float() / 255 - 0.5) / 0.25)
    assert images.dtype == torch.float32
    assert labels.tolist() == list(range(N))
    assert labels.dtype == torch.int64


def test_each_epoch_has_every_sample_in_an_order_and_views_of_its_own() -> None:
    first, second = epoch_of(loader(), 0), epoch_of(loader(), 1)
    assert sorted(order(first)) == sorted(order(second)) == list(range(N))
    assert order(first) != order(second)
    assert any(not torch.equal(views(first)[i], views(second)[i]) for i in range(N))
    assert [len(labels) for _, labels in first] == [8, 8, 8, 6]


def test_seed_and_epoch_decide_alone() -> None:
    fresh, used = loader(), loader()
    next(iter(used))
    epoch_of(used, 5)
    assert same(epoch_of(fresh, 2), epoch_of(used, 2))
    assert order(epoch_of(loader(seed=4), 2)) != order(epoch_of(fresh, 2))


def test_view_of_a_sample_depends_on_neither_batch_nor_ranks_nor_subset() -> None:
    expected = views(epoch_of(loader(), 1))
    others = [
        loader(batch_size=5),
        loader(shuffle=False),
        loader(rank=1, world_size=3),
        loader(indices=np.arange(3, 20)),
    ]
    for other in others:
        for sample, view in views(epoch_of(other, 1)).items():
            assert torch.equal(view, expected[sample])


def test_global_generators_are_neither_read_nor_advanced() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    first = list(loader())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]  # noqa: NPY002
    torch.manual_seed(1)
    assert same(list(loader()), first)


@pytest.mark.parametrize("stop", range(5))
def test_state_resumes_after_the_batch_that_was_last_taken(stop: int) -> None:
    uninterrupted = epoch_of(loader(), 2)
    stopped = loader()
    stopped.set_epoch(2)
    taken = list(itertools.islice(stopped, stop))
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    resumed.set_epoch(2)  # as Lightning does on resuming
    assert same(taken + list(resumed), uninterrupted)
    assert same(epoch_of(resumed, 3), epoch_of(loader(), 3))


def test_iterator_made_before_the_epoch_is_set_gives_that_epoch() -> None:
    early = loader()
    iterator = iter(early)
    early.set_epoch(4)
    assert same(list(iterator), epoch_of(loader(), 4))


def test_abandoned_iteration_starts_over() -> None:
    abandoned = loader()
    next(iter(abandoned))
    assert same(list(abandoned), list(loader()))


def test_second_pass_of_an_epoch_differs_and_resumes() -> None:
    twice = loader()
    first, second = list(twice), list(twice)
    assert sorted(order(second)) == list(range(N))
    assert order(first) != order(second)

    stopped, resumed = loader(), loader()
    list(stopped)
    taken = list(itertools.islice(stopped, 2))
    resumed.load_state_dict(stopped.state_dict())
    assert same(taken + list(resumed), second)


def test_batch_that_training_did_not_finish_is_given_again() -> None:
    epoch, finished = 4, 0
    stopped = loader(clock=lambda: (epoch, finished))
    iterator = iter(stopped)
    taken = []
    for _ in range(2):
        taken.append(next(iterator))
        finished += 1
    next(iterator)
    resumed = loader(clock=lambda: (epoch, finished))
    resumed.load_state_dict(stopped.state_dict())
    assert same(taken + list(resumed), epoch_of(loader(), 4))


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 5),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
)
def test_ranks_share_an_epoch_evenly(n: int, batch_size: int, world_size: int, drop_last: bool, shuffle: bool) -> None:
    if drop_last and n < batch_size * world_size:
        return
    ranks = [
        loader(n, batch_size=batch_size, rank=rank, world_size=world_size, drop_last=drop_last, shuffle=shuffle)
        for rank in range(world_size)
    ]
    batches = [list(rank) for rank in ranks]
    sizes = {tuple(len(labels) for _, labels in rank) for rank in batches}
    assert len(sizes) == 1
    assert [len(rank) for rank in ranks] == [len(rank) for rank in batches]
    seen = [sample for rank in batches for sample in order(rank)]
    if drop_last:
        assert sizes == {(batch_size,) * (n // world_size // batch_size)}
        assert len(set(seen)) == len(seen)
    else:
        assert set(seen) == set(range(n))
        assert len(seen) - n < world_size


def test_state_of_another_layout_is_refused_within_an_epoch_only() -> None:
    stopped = loader()
    iterator = iter(stopped)
    next(iterator)
    with pytest.raises(
        ValueError, match=r"with batch_size=8, world_size=1, got batch_size=4, world_size=2: resume with"
    ):
        loader(batch_size=4, world_size=2).load_state_dict(stopped.state_dict())
    for _ in range(len(stopped) - 1):
        next(iterator)
    state = stopped.state_dict()
    assert state["batch"] == state["num_batches"]
    loader(batch_size=4, world_size=2).load_state_dict(state)


def test_state_is_plain_enough_for_weights_only(tmp_path) -> None:
    torch.save(loader().state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == loader().state_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "expected batch_size to be an integer >= 1, got 0"),
        ({"seed": -1}, "expected seed to be an integer >= 0, got -1"),
        ({"rank": 2, "world_size": 2}, "expected 0 <= rank < world_size, got rank 2 of 2"),
        ({"batch_size": 31, "drop_last": True}, "expected samples for at least one batch, got 30 for batches of 31"),
        ({"indices": np.arange(0)}, "expected samples for at least one batch, got 0"),
    ],
)
def test_bad_arguments_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loader(**changes)


def test_a_long_epoch_goes_over_the_samples_pass_after_pass() -> None:
    long = loader(epoch_batches=8)  # passes of 3 whole batches of 8 out of 30
    batches = epoch_of(long, 0)
    assert len(long) == len(batches) == 8
    assert all(len(labels) == 8 for _, labels in batches)
    passes = [order(batches[start : start + 3]) for start in (0, 3, 6)]
    assert all(len(set(numbers)) == len(numbers) for numbers in passes)  # the samples of a pass, so of a batch, differ
    assert passes[0] != passes[1]
    first, second = (views(batches[start : start + 3]) for start in (0, 3))
    assert any(not torch.equal(first[sample], second[sample]) for sample in first.keys() & second.keys())
    assert {sample for numbers in passes for sample in numbers} == set(range(N))  # those left out are others each time
    assert order(epoch_of(long, 1)) != order(batches)
    assert same(epoch_of(loader(epoch_batches=8), 0), batches)


@pytest.mark.parametrize("stop", range(8))
def test_a_long_epoch_resumes_in_any_pass(stop: int) -> None:
    uninterrupted = epoch_of(loader(epoch_batches=8), 2)
    stopped = loader(epoch_batches=8)
    stopped.set_epoch(2)
    taken = list(itertools.islice(stopped, stop))
    resumed = loader(epoch_batches=8)
    resumed.load_state_dict(stopped.state_dict())
    assert same([*taken, *resumed], uninterrupted)
    if stop:
        with pytest.raises(ValueError, match="with epoch_batches=8, got epoch_batches=9"):
            loader(epoch_batches=9).load_state_dict(stopped.state_dict())


def test_a_long_epoch_needs_a_whole_batch() -> None:
    with pytest.raises(ValueError, match="expected samples for at least one batch, got 30 for batches of 31"):
        loader(epoch_batches=3, batch_size=31)
