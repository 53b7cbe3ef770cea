"""AutoAugment and RandAugment are torchvision's, with chance that depends on the draws alone."""

import pickle
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from supermix_pl.experiments.data import AutoAugment, RandAugment, mixed_rand_augment
from supermix_pl.experiments.data.policies import TorchvisionPolicy

TORCHVISIONS = [
    (RandAugment(), v2.RandAugment()),
    (RandAugment(num_ops=2, magnitude=14), v2.RandAugment(num_ops=2, magnitude=14)),
    (RandAugment(num_ops=3, magnitude=30), v2.RandAugment(num_ops=3, magnitude=30)),
    (AutoAugment(policy="cifar10"), v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
    (AutoAugment(policy="imagenet"), v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)),
]
POLICIES = [policy for policy, _ in TORCHVISIONS]


def photos(count: int, size: tuple[int, int] = (16, 16)) -> torch.Tensor:
    """Smooth images with some noise, so that every operation has something to change."""
    generator = np.random.default_rng(0)
    coarse = torch.from_numpy(generator.random((count, 3, 4, 4), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1).numpy()
    return torch.from_numpy((220 * smooth + 35 * generator.random(smooth.shape)).astype(np.uint8))


def global_states() -> list[bytes]:
    """States of the generators of torch, Python and NumPy that everybody shares."""
    return [pickle.dumps(state) for state in (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state())]  # noqa: NPY002


@pytest.mark.parametrize(("policy", "torchvisions"), TORCHVISIONS, ids=map(repr, POLICIES))
def test_a_view_is_what_torchvision_makes_of_the_image_under_its_seed(
    policy: TorchvisionPolicy, torchvisions: v2.Transform
) -> None:
    images = photos(40, (16, 21))
    seeds = policy.draw(np.random.default_rng(0), 40)
    views = policy.apply(images, seeds)
    for image, view, seed in zip(images, views, seeds.tolist(), strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = torchvisions(image)
        np.testing.assert_array_equal(view, expected.numpy())


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_view_does_not_depend_on_the_batch(policy: TorchvisionPolicy) -> None:
    images, seeds = photos(20), policy.draw(np.random.default_rng(1), 20)
    together = policy.apply(images, seeds)
    order = np.random.default_rng(2).permutation(20)
    np.testing.assert_array_equal(policy.apply(images[order], seeds[order]), together[order])
    np.testing.assert_array_equal(policy.apply(images[3:4], seeds[3:4]), together[3:4])


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_views_reproduce_and_leave_the_global_generators_alone(policy: TorchvisionPolicy) -> None:
    images, before = photos(20), global_states()
    first, again, other = (policy.apply(images, policy.draw(np.random.default_rng(seed), 20)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert global_states() == before


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_most_images_change_and_keep_their_kind(policy: TorchvisionPolicy) -> None:
    images = photos(100, (24, 40))
    before = images.clone()
    views = policy.apply(images, policy.draw(np.random.default_rng(3), 100))
    assert (views.shape, views.dtype) == (images.shape, torch.uint8)
    np.testing.assert_array_equal(images, before)
    assert (views != images).flatten(1).any(dim=1).float().mean() > 0.7
    assert policy.apply(images[:0], policy.draw(np.random.default_rng(3), 0)).shape == (0, 3, 24, 40)


def test_equal_images_get_policies_of_their_own() -> None:
    images = photos(1).expand(60, -1, -1, -1)
    views = RandAugment(num_ops=2, magnitude=14).apply(images, RandAugment().draw(np.random.default_rng(0), 60))
    assert len({view.numpy().tobytes() for view in views}) > 40


def test_magnitude_nought_leaves_a_grey_image_as_it_is() -> None:
    """There all operations of torchvision's have no strength, or, without one to set, nothing to stretch."""
    images = torch.full((100, 3, 9, 9), 100, dtype=torch.uint8)
    seeds = RandAugment().draw(np.random.default_rng(0), 100)
    np.testing.assert_array_equal(RandAugment(num_ops=3, magnitude=0).apply(images, seeds), images)
    assert (RandAugment(num_ops=3, magnitude=1).apply(images, seeds) != images).any()


def test_magnitude_thirty_is_the_whole_range() -> None:
    """Brightness makes grey 0.1 or 1.9 times as light there."""
    images = torch.full((200, 3, 9, 9), 100, dtype=torch.uint8)
    views = RandAugment(num_ops=1, magnitude=30).apply(images, RandAugment().draw(np.random.default_rng(0), 200))
    inner = set(views[:, :, 4, 4].flatten().tolist())
    assert {10, 190} <= inner


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA can use")
def test_mixes_on_a_gpu_stay_there_and_its_generator_is_not_touched() -> None:
    transform = mixed_rand_augment(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    images = torch.rand(8, 3, 12, 12, device="cuda")
    before = torch.cuda.get_rng_state()
    views = transform(images)
    assert (views.device, views.shape) == (images.device, images.shape)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandAugment(num_ops=0), "expected num_ops to be an integer >= 1, got 0"),
        (lambda: RandAugment(magnitude=31), "expected 0 <= magnitude <= 30, got 31: it is a part of 30"),
        (lambda: RandAugment(magnitude=-1), "expected 0 <= magnitude <= 30, got -1"),
    ],
)
def test_bad_arguments_are_refused(build: Callable[[], RandAugment], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_an_unknown_published_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="expected policy to be one of cifar10, imagenet, got 'svhn'"):
        AutoAugment(policy="svhn")  # pyright: ignore[reportArgumentType]
