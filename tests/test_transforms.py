"""Transforms of batches of mixes: one draw an image."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad
from torchvision.transforms import v2

from supermix_pl.transforms import PerImage, RandomCropFlip, RandomResizedCropFlip, View, uniforms
from tests import oracle


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


# Draws: of a key and a look, and of nothing else

VIEWS: list[View] = [
    RandomCropFlip(),
    RandomCropFlip(padding=3, flip_probability=0.2),
    RandomResizedCropFlip(),
    RandomResizedCropFlip(scale=(0.1, 0.6), ratio=(0.5, 2.0), flip_probability=1.0),
]
each_view = pytest.mark.parametrize("view", VIEWS, ids=repr)
KEYS = torch.tensor([0, 1, 2, 7919, 2**62 - 1, 123456789123456789])
LOOKS = torch.tensor([0, 0, 5, 2**20 + 3, 1, 2**45])


def splitmix(state: int) -> int:
    """The output function of splitmix64, in whole numbers."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


GOLDEN, PLASTIC = 1.618033988749895, 1.324717957244746  # the roots of x**2 = x + 1 and of x**3 = x + 1


@pytest.mark.parametrize("steps", [[1 / GOLDEN], [1 / PLASTIC, 1 / PLASTIC**2, 1 / GOLDEN]])
def test_uniforms_start_at_splitmix64s_and_grow_by_irrational_steps(steps: list[float]) -> None:
    golden = 0x9E3779B97F4A7C15
    found = uniforms(KEYS, LOOKS, len(steps)).double()
    for row, (key, look) in enumerate(zip(KEYS.tolist(), LOOKS.tolist(), strict=True)):
        place = splitmix((key + golden) % 2**64)
        for number, step in enumerate(steps):
            start = splitmix((place + (number + 1) * golden) % 2**64) / 2**64
            if look < 2**25:  # so far double precision goes
                assert abs(found[row, number].item() - (start + look * step) % 1) < 1e-6


def test_uniforms_are_uniform_over_keys() -> None:
    keys = torch.arange(4000)
    numbers = uniforms(keys, torch.full_like(keys, 3), 2).double()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert (numbers.mean(dim=0) - 0.5).abs().max() < 0.025  # 5 standard deviations
    counts = (numbers[:, 0] * 20).long().bincount(minlength=20)
    assert (counts - 200).abs().max() < 70
    assert torch.corrcoef(numbers.T)[0, 1].abs() < 0.08
    assert torch.corrcoef(torch.stack([numbers[1:, 0], numbers[:-1, 0]]))[0, 1].abs() < 0.08


@pytest.mark.parametrize("first", [0, 1000, 2**45])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_uniforms_lie_evenly_over_the_rounds_of_a_key(first: int, count: int) -> None:
    """The share of 40 rounds below any bound is within .15 of it; of independent numbers within .19 in the mean."""
    rounds = torch.arange(first, first + 40)
    for key in KEYS:
        ordered = uniforms(key.expand(40), rounds, count).double().sort(dim=0).values
        assert (ordered - torch.arange(40)[:, None] / 40).abs().max() < 0.15


def test_a_few_looks_see_both_sides_and_many_places() -> None:
    """Twelve looks mirror an image five to seven times, and see 12 of its 25 crops."""
    keys, looks = torch.arange(500).repeat_interleave(12), torch.arange(12).repeat(500)
    drawn = RandomCropFlip(2).draw(keys, looks, (32, 32)).view(500, 12, 3)
    assert drawn[:, :, 2].sum(dim=1).unique().tolist() == [5, 6, 7]
    assert {len(each[:, :2].unique(dim=0)) for each in drawn} == {12}


@each_view
def test_a_draw_depends_on_key_and_look_alone(view: View) -> None:
    size = (12, 20)
    drawn = view.draw(KEYS, LOOKS, size)
    torch.manual_seed(99)
    assert view.draw(KEYS, LOOKS, size).equal(drawn)
    order = torch.tensor([4, 0, 5, 2])
    assert view.draw(KEYS[order], LOOKS[order], size).equal(drawn[order])
    chunks = [view.draw(KEYS[rows], LOOKS[rows], size) for rows in torch.arange(6).split(4)]
    assert torch.cat(chunks).equal(drawn)
    assert not view.draw(KEYS + 1, LOOKS, size).equal(drawn)
    assert not view.draw(KEYS, LOOKS + 1, size).equal(drawn)


@each_view
def test_views_are_known_by_their_settings(view: View) -> None:
    assert eval(repr(view)) == view
    assert [repr(view) == repr(other) for other in VIEWS].count(True) == 1


@each_view
def test_gradients_flow_through_a_view(view: View) -> None:
    images = torch.rand(3, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    drawn = view.draw(KEYS[:3], LOOKS[:3], (6, 7))
    assert torch.autograd.gradcheck(lambda leaf: view.apply(leaf, drawn), (images,), fast_mode=True)
    (gradient,) = torch.autograd.grad(view.apply(images, drawn).sum(), images)
    assert gradient.flatten(1).abs().amax(dim=1).gt(0).all()


@each_view
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_view_keeps_dtype_and_shape(view: View, dtype: torch.dtype) -> None:
    images = torch.rand(6, 3, 9, 14).to(dtype)
    before = images.clone()
    shown = view.apply(images, view.draw(KEYS, LOOKS, (9, 14)))
    assert (shown.dtype, shown.shape) == (dtype, images.shape)
    assert images.equal(before)
    assert view(images).dtype == dtype


@pytest.mark.parametrize(("padding", "size"), [(0, (5, 5)), (1, (5, 8)), (3, (6, 4))])
def test_crop_and_flip_equal_the_oracle(padding: int, size: tuple[int, int]) -> None:
    view = RandomCropFlip(padding)
    images = torch.rand(40, 2, *size)
    drawn = view.draw(torch.arange(40), torch.zeros(40, dtype=torch.long), size)
    assert (drawn[:, :2] <= 2 * padding).all()
    for shown, image, (top, left, mirrored) in zip(view.apply(images, drawn), images, drawn.tolist(), strict=True):
        assert shown.equal(oracle.crop_and_flip(image, top, left, mirrored=bool(mirrored), padding=padding))


@pytest.mark.parametrize(("size", "expected"), [((32, 32), (2, 2)), ((8, 8), (1, 1)), ((224, 160), (14, 10))])
def test_the_default_crop_is_a_sixteenth_of_each_side(size: tuple[int, int], expected: tuple[int, int]) -> None:
    many = torch.arange(3000)
    drawn = RandomCropFlip().draw(many, torch.zeros_like(many), size)
    assert tuple(drawn[:, :2].amax(dim=0).tolist()) == (2 * expected[0], 2 * expected[1])
    assert drawn[:, :2].amin(dim=0).tolist() == [0, 0]


# Resized crops


@pytest.mark.parametrize("size", [(7, 7), (9, 14), (16, 5)])
def test_a_resized_crop_equals_bilinear_sampling_at_the_same_places(size: tuple[int, int]) -> None:
    view = RandomResizedCropFlip(scale=(0.1, 1.0))
    images = torch.rand(30, 3, *size, dtype=torch.float64)
    drawn = view.draw(torch.arange(30), torch.zeros(30, dtype=torch.long), size)
    top, left, height, width, mirrored = (drawn[:, column].double() for column in range(5))
    assert mirrored.unique().tolist() == [0, 1]
    sign = 1 - 2 * mirrored
    rows = torch.stack([sign * width, 0 * top, 2 * left + width - 1], dim=1)
    columns = torch.stack([0 * top, height, 2 * top + height - 1], dim=1)
    grid = torch.nn.functional.affine_grid(torch.stack([rows, columns], dim=1), [30, 3, *size], align_corners=False)
    expected = grid_sample(images, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(view.apply(images, drawn), expected, atol=2e-6, rtol=2e-6)  # weights are in float32


@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_a_resized_crop_of_whole_pixels_equals_torchs_inside_its_border(mirrored: float) -> None:
    images = torch.rand(1, 3, 12, 16, dtype=torch.float64)
    parameters = torch.tensor([[3 / 12, 4 / 16, 6 / 12, 8 / 16, mirrored]])
    shown = RandomResizedCropFlip().apply(images, parameters)
    expected = interpolate(images[:, :, 3:9, 4:12], size=(12, 16), mode="bilinear", align_corners=False)
    expected = expected.flip(3) if mirrored else expected
    torch.testing.assert_close(shown[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-6, rtol=1e-6)


def test_the_whole_image_is_a_crop_that_changes_nothing() -> None:
    images = torch.rand(6, 3, 9, 14)
    view = RandomResizedCropFlip(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip_probability=0.0)
    torch.testing.assert_close(view.apply(images, view.draw(KEYS, LOOKS, (9, 14))), images)


def test_resized_crops_keep_the_shares_and_shapes_that_were_asked_for_and_lie_inside() -> None:
    many = torch.arange(4000)
    drawn = RandomResizedCropFlip(scale=(0.2, 0.4), ratio=(0.5, 2.0)).draw(many, torch.zeros_like(many), (10, 30))
    top, left, height, width, mirrored = drawn.double().unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 1 + 1e-6).all()
    assert (left + width <= 1 + 1e-6).all()
    area, ratio = height * width, width / height
    assert area.min() == pytest.approx(0.2, abs=0.001)
    assert area.max() == pytest.approx(0.4, abs=0.001)
    assert area.mean() == pytest.approx(0.3, abs=0.01)
    assert ratio.min() == pytest.approx(0.5, rel=0.01)
    assert ratio.max() == pytest.approx(2.0, rel=0.01)
    assert ratio.log().mean().abs() < 0.04
    assert mirrored.mean() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"scale": (0.5, 1.5)}, r"expected scale in \(0, 1\], got \(0.5, 1.5\)"),
        ({"scale": (0.5, 0.2)}, r"expected scale as \(least, largest\) with 0 < least <= largest, got \(0.5, 0.2\)"),
        ({"scale": 0.5}, r"expected scale as \(least, largest\).*got 0.5"),
        ({"ratio": (0, 1)}, r"expected ratio as \(least, largest\).*got \(0, 1\)"),
        ({"ratio": (float("nan"), 1)}, r"expected ratio as \(least, largest\)"),
        ({"flip_probability": -0.1}, r"expected flip_probability in \[0, 1\], got -0.1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_of_the_resized_crop(arguments: dict, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        RandomResizedCropFlip(**arguments)


@pytest.mark.usefixtures("unchecked")
def test_lists_of_a_config_are_intervals() -> None:
    assert RandomResizedCropFlip(scale=[0.5, 1], ratio=[1, 1]) == RandomResizedCropFlip(ratio=(1.0, 1.0))  # pyright: ignore


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
    pixels = torch.full((1, 1, 2, 10), 0.5)
    pixels[0, 0, 0, :2] = torch.tensor([-1.0, 2.0])
    assert PerImage(lambda image: image)(pixels)[0, 0, 0, :3].tolist() == [0.0, 1.0, 0.5]


def test_images_that_other_statistics_belong_to_are_refused() -> None:
    pixels, images = normalised(3)
    given = PerImage(lambda image: image)
    with pytest.raises(
        ValueError, match=r"expected pixels in \[0, 1\] .*, got \d+% of them outside, from -.* to .*mean and std"
    ):
        given(images)
    with pytest.raises(ValueError, match="expected pixels"):
        given(images)  # nothing is clipped in silence
    PerImage(lambda image: image, MEAN, STD)(images)
    given = PerImage(lambda image: image)
    given(pixels)
    given(images)  # later batches are not looked at


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


def test_the_wrapper_is_known_by_its_settings() -> None:
    text = repr(PerImage(v2.RandomHorizontalFlip(), MEAN, STD))
    assert "RandomHorizontalFlip(p=0.5)" in text
    assert " at 0x" not in text
    others = [PerImage(v2.RandomHorizontalFlip(), STD, MEAN), PerImage(v2.RandomHorizontalFlip(0.4), MEAN, STD)]
    assert all(repr(other) != text for other in others)


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
