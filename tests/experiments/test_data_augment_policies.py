"""Policies in groups against torchvision, one image at a time."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from supermix_pl.experiments.data import AutoAugment, Cutout, FastAutoAugment, RandAugment
from supermix_pl.experiments.data.operations import STRENGTHS, Operation, apply_operation
from supermix_pl.experiments.data.policies import Policy, SubPolicy

POLICIES = [
    RandAugment(num_ops=2, magnitude=14),
    RandAugment(num_ops=3, magnitude=30),
    AutoAugment(policy="cifar10"),
    AutoAugment(policy="imagenet"),
    FastAutoAugment(policy="example"),
]
BLACK = np.zeros(3, dtype=np.uint8)


class Fixed(Policy):
    """A policy of given sub-policies."""

    def __init__(self, *sub_policies: SubPolicy) -> None:
        self.given = sub_policies

    def _listed(self) -> Sequence[SubPolicy]:
        return self.given


def photos(count: int, size: tuple[int, int] = (32, 32), seed: int = 0) -> np.ndarray:
    """Smooth images with some noise, so that every operation has something to change."""
    generator = np.random.default_rng(seed)
    coarse = torch.from_numpy(generator.random((count, 3, 4, 4), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1).numpy()
    return (220 * smooth + 35 * generator.random(smooth.shape)).astype(np.uint8)


def torchvisions_view(image: np.ndarray, name: str, level: int, bins: int, *, negative: bool) -> np.ndarray:
    """What torchvision makes of an image (3, h, w) with an operation at a level of so many."""
    transform = v2.AutoAugment()
    strength_of, signed = transform._AUGMENTATION_SPACE.get(name, (lambda *_: None, False))
    strengths = strength_of(bins, *image.shape[1:])
    strength = 0.0 if strengths is None else float(strengths[level]) * (-1 if negative and signed else 1)
    tensor = torch.from_numpy(image)
    view = transform._apply_image_or_video_transform(tensor, name, strength, transform.interpolation, transform._fill)
    assert isinstance(view, torch.Tensor)
    return view.numpy()


@pytest.mark.parametrize("size", [(32, 32), (20, 27)])
@pytest.mark.parametrize("magnitude", [0, 9, 14, 30])
@pytest.mark.parametrize("negative", [False, True])
def test_randaugment_is_torchvisions_with_magnitudes_of_30(
    magnitude: int, negative: bool, size: tuple[int, int]
) -> None:
    policy = RandAugment(num_ops=1, magnitude=magnitude)
    names = [sub_policy[0].name for sub_policy in policy.sub_policies]
    assert sorted(names) == sorted(v2.RandAugment._AUGMENTATION_SPACE)
    images = photos(2 * len(names), size)
    draws = policy.draw(np.random.default_rng(0), len(images))
    draws[:, 0, 0] = (np.arange(len(images)) % len(names) + 0.5) / len(names)
    draws[:, 0, 2] = 0.2 if negative else 0.8
    views = policy.apply(images, draws, fill=BLACK)
    for number, (image, view) in enumerate(zip(images, views, strict=True)):
        name = names[number % len(names)]
        expected = torchvisions_view(image, name, magnitude, 31, negative=negative)
        np.testing.assert_array_equal(view, expected, err_msg=name)


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
@pytest.mark.parametrize("negative", [False, True])
def test_autoaugment_is_torchvisions(policy: str, negative: bool) -> None:
    augment = AutoAugment(policy=policy)  # pyright: ignore[reportArgumentType]
    published = v2.AutoAugment(v2.AutoAugmentPolicy(policy))._policies
    assert len(augment.sub_policies) == len(published) == 25
    images = photos(25)
    draws = augment.draw(np.random.default_rng(0), 25)
    draws[:, 0, 0] = (np.arange(25) + 0.5) / 25
    for taken in (0.0, 0.55):
        draws[:, 0, [1, 5]] = taken
        draws[:, 0, [2, 6]] = 0.2 if negative else 0.8
        views = augment.apply(images, draws, fill=BLACK)
        for image, view, pair in zip(images, views, published, strict=True):
            for name, probability, level in pair:
                if taken < probability:
                    image = torchvisions_view(image, name, level or 0, 10, negative=negative)
            np.testing.assert_array_equal(view, image, err_msg=str(pair))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_view_does_not_depend_on_the_batch(policy: Policy) -> None:
    images = photos(60)
    draws = policy.draw(np.random.default_rng(1), 60)
    before = images.copy()
    together = policy.apply(images, draws, fill=BLACK)
    np.testing.assert_array_equal(images, before)
    alone = [policy.apply(images[i : i + 1], draws[i : i + 1], fill=BLACK) for i in range(60)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    order = np.random.default_rng(2).permutation(60)
    np.testing.assert_array_equal(policy.apply(images[order], draws[order], fill=BLACK), together[order])


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_most_images_change_and_keep_their_kind(policy: Policy) -> None:
    images = photos(200, (24, 40))
    views = policy.apply(images, policy.draw(np.random.default_rng(3), 200), fill=BLACK)
    assert (views.shape, views.dtype) == (images.shape, np.uint8)
    changed = (views != images).any((1, 2, 3)).mean()
    assert changed > 0.7


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_draws_reproduce_and_leave_the_global_generators_alone(policy: Policy) -> None:
    torch.manual_seed(0)
    state, images = torch.get_rng_state(), photos(20)
    first, again, other = (
        policy.apply(images, policy.draw(np.random.default_rng(seed), 20), fill=BLACK) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", sorted(set(STRENGTHS) - {"Cutout"}))
@settings(max_examples=8, deadline=None)
@given(strength=st.floats(-0.9, 0.9), size=st.tuples(st.integers(3, 20), st.integers(3, 20)))
def test_every_operation_keeps_shape_and_dtype(name: str, strength: float, size: tuple[int, int]) -> None:
    images = torch.from_numpy(photos(2, size))
    value = {"Posterize": 6.0, "Solarize": 255 * abs(strength), "Rotate": 30 * strength}.get(name, strength)
    view = apply_operation(images, name, value)
    assert (view.shape, view.dtype) == (images.shape, torch.uint8)


def test_probabilities_signs_and_choices_come_out_as_often_as_they_should() -> None:
    steps = Operation(name="Brightness", probability=0.3, strength=0.5, mirrored=True)
    policy = Fixed((steps,), (Operation(name="Invert"),), ())
    images = np.full((3000, 3, 2, 2), 100, dtype=np.uint8)
    pixels = policy.apply(images, policy.draw(np.random.default_rng(0), 3000), fill=BLACK)[:, 0, 0, 0]
    counts = {value: int((pixels == value).sum()) for value in (50, 150, 155, 100)}
    assert sum(counts.values()) == 3000
    expected = {50: 150, 150: 150, 155: 1000, 100: 1700}
    assert all(abs(counts[value] - expected[value]) < 5 * expected[value] ** 0.5 for value in expected)


def test_operations_of_a_sub_policy_are_taken_in_their_order() -> None:
    first, second = Operation(name="Solarize", strength=128), Operation(name="Brightness", strength=-0.5)
    images = np.full((4, 3, 2, 2), 200, dtype=np.uint8)
    for steps, expected in (((first, second), 27), ((second, first), 100)):
        policy = Fixed(steps)
        assert (policy.apply(images, policy.draw(np.random.default_rng(0), 4), fill=BLACK) == expected).all()


def test_a_cutout_inside_a_policy_is_that_of_cutout() -> None:
    policy = Fixed((Operation(name="Cutout", strength=0.25),))
    images, fill = photos(50), np.array([7, 8, 9], dtype=np.uint8)
    draws = policy.draw(np.random.default_rng(0), 50)
    expected = Cutout(size=8).apply(images, draws[:, 0, 3:5], fill=fill)
    np.testing.assert_array_equal(policy.apply(images, draws, fill=fill), expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandAugment(num_ops=0), "expected num_ops >= 1, got 0"),
        (lambda: RandAugment(magnitude=31), "expected 0 <= magnitude <= 30, got 31: it is a part of 30"),
        (lambda: RandAugment(magnitude=-1), "expected 0 <= magnitude <= 30, got -1"),
    ],
)
def test_bad_arguments_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_published_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="expected policy cifar10 or imagenet, got 'svhn'"):
        AutoAugment(policy="svhn")  # pyright: ignore[reportArgumentType]
