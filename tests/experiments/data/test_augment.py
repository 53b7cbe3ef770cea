"""The crop-and-flip view against a plain loop over pixels; views of several steps, and of arrays."""

from typing import Any

import numpy as np
import pytest
import torch

from supermix_pl.experiments.data import (
    ArraySource,
    Augmentation,
    AutoAugment,
    CropFlip,
    Cutout,
    FastAutoAugment,
    RandAugment,
    SmallImageView,
)
from supermix_pl.experiments.data import source as source_module
from supermix_pl.experiments.data.loader import ResumableLoader
from supermix_pl.experiments.data.pixels import Normalisation


def slow_view(image: np.ndarray, padding: int, top: int, left: int, mirrored: int) -> np.ndarray:
    height, width = image.shape[1:]
    view = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            row, column = y + top - padding, (width - 1 - x if mirrored else x) + left - padding
            if 0 <= row < height and 0 <= column < width:
                view[:, y, x] = image[:, row, column]
    return view


@pytest.mark.parametrize(("padding", "flip", "shape"), [(4, True, (9, 9)), (2, True, (5, 8)), (1, False, (1, 1))])
def test_views_are_those_of_a_plain_loop(padding: int, flip: bool, shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(0, 256, (40, 3, *shape), dtype=np.uint8))
    augment = CropFlip(padding=padding, flip=flip)
    draws = augment.draw(generator, 40)
    expected = [slow_view(each, padding, *draw) for each, draw in zip(images.numpy(), draws.tolist(), strict=True)]
    before = images.clone()
    np.testing.assert_array_equal(augment.apply(images, draws), expected)
    np.testing.assert_array_equal(images, before)


def test_every_offset_and_flip_is_drawn() -> None:
    draws = CropFlip(padding=2).draw(np.random.default_rng(0), 2000)
    assert {tuple(row) for row in draws.tolist()} == {(t, x, f) for t in range(5) for x in range(5) for f in range(2)}


def test_no_padding_and_no_flip_changes_nothing() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 3, 4, 5), dtype=np.uint8))
    augment = CropFlip(padding=0, flip=False)
    np.testing.assert_array_equal(augment.apply(images, augment.draw(np.random.default_rng(1), 6)), images)


def test_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="expected padding to be an integer >= 0, got -1"):
        CropFlip(padding=-1)


# Several steps

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
VIEWS = [
    CropFlip(),
    SmallImageView(cutout=8),
    SmallImageView(policy=RandAugment(num_ops=2, magnitude=14), cutout=8),
    SmallImageView(policy=AutoAugment(policy="cifar10"), cutout=8),
    SmallImageView(policy=FastAutoAugment(policy="example"), cutout=8),
    RandAugment(),
]


def test_steps_are_taken_in_their_order() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (30, 3, 12, 12), dtype=np.uint8))
    crop, policy, fill = CropFlip(padding=2), RandAugment(), np.array([1, 2, 3], dtype=np.uint8)
    view = SmallImageView(crop_flip=crop, policy=policy, cutout=4)
    draws = view.draw(np.random.default_rng(1), 30)
    expected = crop.apply(images, draws["crop_flip"])
    expected = policy.apply(expected, draws["policy"], fill=fill)
    expected = Cutout(size=4).apply(expected, draws["cutout"], fill=fill)
    np.testing.assert_array_equal(view.apply(images, draws, fill=fill), expected)
    generator = np.random.default_rng(1)
    np.testing.assert_array_equal(draws["crop_flip"], crop.draw(generator, 30))
    np.testing.assert_array_equal(draws["policy"], policy.draw(generator, 30))


def test_without_policy_and_cutout_only_the_crop_is_left() -> None:
    assert list(SmallImageView().steps) == ["crop_flip"]
    assert list(SmallImageView(policy=RandAugment(), cutout=1).steps) == ["crop_flip", "policy", "cutout"]
    with pytest.raises(ValueError, match="expected cutout to be an integer >= 0, got -1"):
        SmallImageView(cutout=-1)


def source(augment: Augmentation | None) -> ArraySource:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (50, 3, 16, 16), dtype=np.uint8)
    return ArraySource(images=images, labels=np.arange(50), normalisation=Normalisation(MEAN, STD), augment=augment)


def images_of(data: ArraySource, *batches: list[int], stream: tuple[int, ...] | None = (3, 1)) -> torch.Tensor:
    return torch.cat([images for images, _ in data.batches([np.array(batch) for batch in batches], stream=stream)])


@pytest.mark.parametrize("augment", VIEWS, ids=repr)
def test_views_of_an_array_are_functions_of_stream_and_sample(augment: Augmentation) -> None:
    data = source(augment)
    whole = images_of(data, list(range(50)))
    np.random.default_rng().random()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert images_of(data, [7, 3], [49], [7]).equal(whole[[7, 3, 49, 7]])
    assert torch.equal(torch.get_rng_state(), state)
    assert not images_of(data, list(range(50)), stream=(3, 2)).equal(whole)
    plain = images_of(source(None), list(range(50)))
    assert images_of(data, list(range(50)), stream=None).equal(plain)
    assert (whole != plain).any(dim=1).any(dim=1).any(dim=1).float().mean() > 0.6


def test_what_is_cut_out_is_nought_for_the_network() -> None:
    data = source(SmallImageView(crop_flip=CropFlip(padding=0, flip=False), cutout=6))
    views, plain = images_of(data, list(range(50))), images_of(source(None), list(range(50)))
    changed = (views != plain).any(dim=1)
    assert 0 < changed.float().mean() < 36 / 256
    assert views.permute(0, 2, 3, 1)[changed].abs().max() <= 0.5 / 255 / min(STD) + 1e-6


@pytest.mark.parametrize("augment", [None, *VIEWS], ids=repr)
def test_batches_wanted_on_a_device_are_made_or_sent_there(augment: Augmentation | None) -> None:
    """The meta device has no numbers, and refuses to compute with tensors of another one as a GPU does."""
    data, meta = source(augment), torch.device("meta")
    loader = ResumableLoader(data, indices=np.arange(10), batch_size=7, with_indices=True, device=meta)
    batches: list[Any] = list(loader)
    assert {part.device for batch in batches for part in batch} == {meta}
    assert [images.shape for images, *_ in batches] == [(7, 3, 16, 16), (3, 3, 16, 16)]
    one_by_one = augment is not None and augment.on_host
    assert set(data._held) == {torch.device("cpu") if one_by_one else meta}


def test_an_array_that_is_too_large_for_a_device_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "_MOST_BYTES", 0)
    data = source(CropFlip())
    (batch,) = data.batches([np.arange(7)], stream=(3, 1), device=torch.device("meta"))
    assert batch[0].is_meta
    assert set(data._held) == {torch.device("cpu")}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA can use")
@pytest.mark.parametrize("augment", VIEWS, ids=repr)
def test_a_gpu_makes_the_batches_of_the_cpu_to_the_bit(augment: Augmentation) -> None:
    data, order = source(augment), [np.arange(30, 50), np.arange(30)]
    here = data.batches(order, stream=(3, 1))
    there = data.batches(order, stream=(3, 1), device=torch.device("cuda", 0))
    for one, two in zip(here, there, strict=True):
        assert two[0].is_cuda
        assert two[0].cpu().equal(one[0])
        assert two[1].cpu().equal(one[1])
