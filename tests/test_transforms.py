"""Transforms of batches of mixes: one draw an image."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms import v2

from supermix_pl.transforms import PerImage, RandomCropFlip


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def distinct_pixels(count: int, size: tuple[int, int] = (6, 7)) -> Tensor:
    """Every pixel has a value of its own, none of them 0."""
    return torch.arange(1.0, 1 + count * 2 * size[0] * size[1]).view(count, 2, *size)


def view_of(image: Tensor, view: Tensor, padding: int) -> tuple[int, int, bool] | None:
    """Find the shift and the flip that give the view, by trying all."""
    _, height, width = image.shape
    padded = pad(image, [padding] * 4)
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + height, left : left + width]
            if crop.equal(view):
                return top, left, False
            if crop.flip(2).equal(view):
                return top, left, True
    return None


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_every_image_gets_a_crop_and_a_flip_of_its_own(padding: int) -> None:
    images = distinct_pixels(400)
    found = [view_of(image, view, padding) for image, view in zip(images, RandomCropFlip(padding)(images), strict=True)]
    assert None not in found
    counts = {view: found.count(view) for view in set(found)}
    places = 2 * (2 * padding + 1) ** 2
    assert len(counts) == places
    assert max(abs(count - 400 / places) for count in counts.values()) < 5 * (400 / places) ** 0.5


@pytest.mark.parametrize(("probability", "flips"), [(0.0, {False}), (1.0, {True})])
def test_flip_probability(probability: float, flips: set[bool]) -> None:
    images = distinct_pixels(50)
    views = RandomCropFlip(1, probability)(images)
    found = [view_of(image, view, 1) for image, view in zip(images, views, strict=True)]
    assert {view[2] for view in found if view is not None} == flips
    assert None not in found


def test_chance_comes_from_torchs_generator() -> None:
    images, transform = distinct_pixels(8), RandomCropFlip()
    torch.manual_seed(1)
    first, second = transform(images), transform(images)
    torch.manual_seed(1)
    assert transform(images).equal(first)
    assert not second.equal(first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_images_are_kept(dtype: torch.dtype) -> None:
    images = distinct_pixels(3).to(dtype)
    before = images.clone()
    views = RandomCropFlip()(images)
    assert views.dtype == dtype
    assert views.shape == images.shape
    assert images.equal(before)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"padding": -1}, "expected padding to be an integer >= 0, got -1"),
        ({"padding": 2.5}, "expected padding to be an integer >= 0, got 2.5"),
        ({"flip_probability": "a"}, r"expected flip_probability in \[0, 1\], got 'a'"),
        ({"flip_probability": 1.5}, r"expected flip_probability in \[0, 1\], got 1.5"),
        ({"flip_probability": float("nan")}, r"expected flip_probability in \[0, 1\], got nan"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_of_the_crop(arguments: dict, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        RandomCropFlip(**arguments)


# Per image

MEAN, STD = [0.5, 0.4], [0.2, 0.3]


def normalised(count: int) -> tuple[Tensor, Tensor]:
    """Pixels in [0, 1], and the same normalised."""
    pixels = torch.rand(count, 2, 4, 5)
    return pixels, (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def test_the_transform_sees_single_images_in_0_to_1_and_the_result_is_normalised_back() -> None:
    seen: list[Tensor] = []

    def invert(image: Tensor) -> Tensor:
        seen.append(image)
        return 1 - image

    pixels, images = normalised(3)
    result = PerImage(invert, MEAN, STD)(images)
    torch.testing.assert_close(torch.stack(seen), pixels)
    expected = (1 - pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(result, expected)


def test_without_statistics_images_are_in_0_to_1_already() -> None:
    pixels, _ = normalised(3)
    assert PerImage(lambda image: image.flip(-1))(pixels).equal(pixels.flip(-1))


def test_pixels_out_of_range_are_clamped() -> None:
    result = PerImage(lambda image: image)(torch.tensor([-1.0, 0.5, 2.0]).view(1, 1, 1, 3))
    assert result.flatten().tolist() == [0.0, 0.5, 1.0]


def test_one_draw_an_image() -> None:
    images = distinct_pixels(40)[:1].repeat(40, 1, 1, 1) / 100
    at_once = v2.RandomHorizontalFlip()(images)
    assert at_once.equal(images) or at_once.equal(images.flip(-1))
    one_by_one = PerImage(v2.RandomHorizontalFlip())(images)
    flipped = [view.equal(image.flip(-1)) for view, image in zip(one_by_one, images, strict=True)]
    assert 8 < sum(flipped) < 32


def test_torchvisions_policies() -> None:
    policy = v2.Compose([v2.ToDtype(torch.uint8, scale=True), v2.RandAugment(), v2.ToDtype(torch.float32, scale=True)])
    images = (torch.rand(4, 3, 8, 8) - 0.5) / 0.25
    views = PerImage(policy, [0.5] * 3, [0.25] * 3)(images)
    assert views.shape == images.shape
    assert views.abs().max() <= 2 + 1e-6
    assert not views.equal(images)


@pytest.mark.parametrize("arguments", [{"mean": [0.5]}, {"std": [0.5]}])
def test_bad_arguments_of_the_wrapper(arguments: dict) -> None:
    with pytest.raises(ValueError, match="expected mean and std together, got only one of them; give both or neither"):
        PerImage(lambda image: image, **arguments)


@pytest.mark.parametrize("transform", [3, v2.RandAugment])
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_transform(transform: Any) -> None:
    with pytest.raises(TypeError, match="expected transform to take and give images, got "):
        PerImage(transform)


def test_statistics_of_another_number_of_channels() -> None:
    with pytest.raises(ValueError, match="expected images with 2 channels, as mean and std have, got 3"):
        PerImage(lambda image: image, MEAN, STD)(torch.rand(1, 3, 4, 4))
