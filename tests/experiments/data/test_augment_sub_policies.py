"""Views of Fast AutoAugment: its operations, and what chance has to say."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from supermix_pl.experiments.data import FastAutoAugment
from supermix_pl.experiments.data.fast_autoaugment import _OPERATIONS

BLACK = np.zeros(3, dtype=np.uint8)
OPERATIONS = sorted(v2.AutoAugment._AUGMENTATION_SPACE)


def written(folder: Path, *sub_policies: Sequence[tuple[str, float, float]]) -> FastAutoAugment:
    (folder / "policy.json").write_text(json.dumps(sub_policies))
    return FastAutoAugment(policy=str(folder / "policy.json"))


def stepped(images: torch.Tensor, name: str, strength: float) -> torch.Tensor:
    return torch.stack([_OPERATIONS[name][3](image, strength) for image in images])


def photos(count: int, size: tuple[int, int] = (32, 32)) -> torch.Tensor:
    """Smooth images with some noise, so that every operation has something to change."""
    generator = np.random.default_rng(0)
    coarse = torch.from_numpy(generator.random((count, 3, 4, 4), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1).numpy()
    return torch.from_numpy((220 * smooth + 35 * generator.random(smooth.shape)).astype(np.uint8))


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_torchvisions_class(name: str) -> None:
    """It takes translations in pixels, and thresholds as a part of white."""
    transform, images = v2.AutoAugment(), photos(4, (20, 27))
    unit = {"TranslateX": 27, "TranslateY": 20, "Solarize": 1 / 255}.get(name, 1)
    for strength in {"Posterize": (5.0,), "Solarize": (100.0,), "Rotate": (20.0, -20.0)}.get(name, (0.25, -0.25)):
        expected = transform._apply_image_or_video_transform(
            images, name, strength * unit, transform.interpolation, transform._fill
        )
        assert isinstance(expected, torch.Tensor)
        assert stepped(images, name, strength).equal(expected)


def test_a_view_does_not_depend_on_the_batch() -> None:
    policy, images = FastAutoAugment(policy="example"), photos(60)
    draws = policy.draw(np.random.default_rng(1), 60)
    before = images.clone()
    together = policy.apply(images, draws, fill=BLACK)
    np.testing.assert_array_equal(images, before)
    alone = [policy.apply(images[i : i + 1], draws[i : i + 1], fill=BLACK) for i in range(60)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    order = np.random.default_rng(2).permutation(60)
    np.testing.assert_array_equal(policy.apply(images[order], draws[order], fill=BLACK), together[order])


def test_most_images_change_and_keep_their_kind() -> None:
    policy, images = FastAutoAugment(policy="example"), photos(200, (24, 40))
    views = policy.apply(images, policy.draw(np.random.default_rng(3), 200), fill=BLACK)
    assert (views.shape, views.dtype) == (images.shape, torch.uint8)
    assert (views != images).flatten(1).any(dim=1).float().mean() > 0.6


def test_draws_reproduce_and_leave_the_global_generator_alone() -> None:
    policy, images, state = FastAutoAugment(policy="example"), photos(20), torch.get_rng_state()
    first, again, other = (
        policy.apply(images, policy.draw(np.random.default_rng(seed), 20), fill=BLACK) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=8, deadline=None)
@given(strength=st.floats(-0.9, 0.9), size=st.tuples(st.integers(3, 20), st.integers(3, 20)))
def test_every_operation_keeps_shape_and_dtype(name: str, strength: float, size: tuple[int, int]) -> None:
    images = photos(2, size)
    value = {"Posterize": 6.0, "Solarize": 256 * abs(strength) / 0.9, "Rotate": 30 * strength}.get(name, strength)
    view = stepped(images, name, value)
    assert (view.shape, view.dtype) == (images.shape, torch.uint8)


def test_probabilities_signs_and_choices_come_out_as_often_as_they_should(tmp_path: Path) -> None:
    """A point of light moves a pixel to either side, is inverted, or stays."""
    policy = written(tmp_path, [("TranslateX", 0.3, 0.75)], [("Invert", 1, 0)], [("Invert", 0, 0)])
    images = torch.zeros(3000, 3, 1, 5, dtype=torch.uint8)
    images[:, :, :, 2] = 200
    rows = policy.apply(images, policy.draw(np.random.default_rng(0), 3000), fill=BLACK)[:, 0, 0].tolist()
    shown = {"left": [0, 200, 0, 0, 0], "right": [0, 0, 0, 200, 0], "kept": [0, 0, 200, 0, 0]}
    counts = {name: rows.count(row) for name, row in (shown | {"inverted": [255, 255, 55, 255, 255]}).items()}
    assert sum(counts.values()) == 3000
    expected = {"left": 150, "right": 150, "inverted": 1000, "kept": 1700}
    assert all(abs(counts[name] - expected[name]) < 5 * expected[name] ** 0.5 for name in expected)


def test_operations_of_a_sub_policy_are_taken_in_their_order(tmp_path: Path) -> None:
    """Solarize inverts pixels from 128 on; Brightness is 0.55 times."""
    first, second = ("Solarize", 1.0, 0.5), ("Brightness", 1.0, 0.25)
    images = torch.full((4, 3, 2, 2), 200, dtype=torch.uint8)
    for steps, expected in (((first, second), 30), ((second, first), 110)):
        policy = written(tmp_path, steps)
        assert (policy.apply(images, policy.draw(np.random.default_rng(0), 4), fill=BLACK) == expected).all()


def test_a_cutout_inside_a_policy_is_a_grey_square(tmp_path: Path) -> None:
    policy = written(tmp_path, [("Cutout", 1.0, 1.0)])  # a fifth of 32 pixels
    images = torch.zeros(50, 3, 32, 32, dtype=torch.uint8)
    views = policy.apply(images, policy.draw(np.random.default_rng(0), 50), fill=BLACK)
    painted = (views == torch.tensor([125, 123, 114])[:, None, None]).all(dim=1)
    assert torch.equal(painted, views.any(dim=1))
    assert painted.sum(dim=(1, 2)).max() == 36
