"""Which batches are mixed, and where chance comes from."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supermix_pl.transforms import RandomCropFlip
from tests.integration.toys import (
    Student,
    assert_extended,
    assert_same_tensors,
    loader,
    make_callback,
    make_trainer,
    natural_data,
    weights,
)

EPOCHS = 4


def mixed_steps(folder: Path, batches: int = 3, epochs: int = EPOCHS, **options: Any) -> list[bool]:
    """Fit, and tell which steps had mixes; `callback.mix` has to say the same."""
    student = Student()
    make_trainer(folder, make_callback(**options), max_epochs=epochs).fit(student, loader(4 * batches))
    sizes = [len(images) for images in student.images]
    assert len(sizes) == batches * epochs
    assert [size == 8 for size in sizes] == [mix is not None for mix in student.mixes]
    return [size == 8 for size in sizes]


@pytest.mark.filterwarnings("ignore:start_epoch=4 is not below")
def test_start_epoch(tmp_path: Path) -> None:
    assert mixed_steps(tmp_path, start_epoch=2) == 6 * [False] + 6 * [True]
    assert not any(mixed_steps(tmp_path, start_epoch=EPOCHS))


def test_stop_epoch(tmp_path: Path) -> None:
    assert mixed_steps(tmp_path, stop_epoch=3) == 9 * [True] + 3 * [False]
    assert mixed_steps(tmp_path, start_epoch=1, stop_epoch=2) == 3 * [False] + 3 * [True] + 6 * [False]
    assert all(mixed_steps(tmp_path, stop_epoch=EPOCHS))
    blind = mixed_steps(tmp_path, start_epoch=2, before_start="mixup", targets="soft", stop_epoch=3)
    assert blind == 9 * [True] + 3 * [False]


def test_every_n_batches_counts_over_epochs(tmp_path: Path) -> None:
    assert mixed_steps(tmp_path, every_n_batches=2) == 6 * [True, False]
    assert mixed_steps(tmp_path, every_n_batches=5) == [number % 5 == 0 for number in range(12)]


def test_start_epoch_and_every_n_batches(tmp_path: Path) -> None:
    expected = [number >= 6 and number % 4 == 0 for number in range(12)]
    assert mixed_steps(tmp_path, start_epoch=2, every_n_batches=4) == expected


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_certain_probability(tmp_path: Path, probability: float) -> None:
    assert mixed_steps(tmp_path, probability=probability) == 12 * [probability == 1.0]


def test_probability_is_the_share_of_batches(tmp_path: Path) -> None:
    shares = [np.mean(mixed_steps(tmp_path, batches=60, epochs=1, probability=0.25, seed=seed)) for seed in (0, 1)]
    for share in shares:
        assert abs(share - 0.25) < 3 * (0.25 * 0.75 / 60) ** 0.5
    assert 0 < np.mean(shares) < 1


def test_probability_is_drawn_from_the_seed(tmp_path: Path) -> None:
    first, again, other = (mixed_steps(tmp_path, probability=0.5, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def fit(folder: Path, seed: int, student: Student | None = None, **options: Any) -> Student:
    student = student or Student()
    options = {"mixed_transform": RandomCropFlip(padding=1), **options}
    make_trainer(folder, make_callback(seed=seed, **options), max_epochs=2).fit(student, loader())
    return student


def test_same_seed_repeats_to_the_bit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = fit(tmp_path, 0)
    torch.manual_seed(2)  # the global generators do not matter
    np.random.seed(2)  # noqa: NPY002
    random.seed(2)
    again, other = fit(tmp_path, 0), fit(tmp_path, 1)
    assert_same_tensors(weights(again), weights(first))
    for images, expected, different in zip(again.images, first.images, other.images, strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(images[:4], different[:4])
        assert not torch.equal(images[4:], different[4:])


def test_every_batch_and_epoch_has_its_own_stream(tmp_path: Path) -> None:
    student = Student()
    images, labels = natural_data(4)
    same = torch.utils.data.TensorDataset(images.repeat(3, 1, 1, 1), labels.repeat(3))
    trainer = make_trainer(tmp_path, make_callback(), max_epochs=2, accumulate_grad_batches=2)
    trainer.fit(student, torch.utils.data.DataLoader(same, 4))
    shares = [mix.mix_weights for mix in student.mixes if mix is not None]
    assert len(shares) == 6
    for first in range(6):
        assert torch.equal(student.images[first][:4], images)
        for second in range(first):
            assert not torch.equal(shares[first], shares[second])


class Drawing(Student):
    """Draws from the global generators in each step, as dropout or an augmentation would.

    Not from Python's: the run-time type checks of the tests advance it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[tuple[float, float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.draws.append((torch.rand(1).item(), np.random.rand()))  # noqa: NPY002
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    "options", [{}, {"mixed_transform": RandomCropFlip(padding=1)}, {"probability": 0.5}], ids=["mix", "view", "some"]
)
def test_no_global_generator_is_advanced(tmp_path: Path, options: dict[str, Any]) -> None:
    draws = []
    for mixing in (False, True):
        student = Drawing()
        callbacks = [make_callback(**options)] if mixing else []
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        make_trainer(tmp_path, *callbacks, max_epochs=2).fit(student, loader(24, shuffle=True))
        draws.append([*student.draws, student.images[-1][:4].sum().item()])  # the order of the loader too
        assert any(mix is not None for mix in student.mixes) == mixing
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == len(draws[0])


def test_mix_of_the_callback_is_that_of_the_batch(tmp_path: Path) -> None:
    callback, student = make_callback(every_n_batches=2), Student()
    assert callback.mix is None
    make_trainer(tmp_path, callback).fit(student, loader(12))
    assert student.mixes[1] is None
    for step in (0, 2):
        assert_extended(student, step, *list(loader())[step])
    assert callback.mix is None  # it belongs to the training step
