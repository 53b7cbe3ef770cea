"""Saliency as a start, against the oracle."""

import math

import pytest
import torch

from supermix_pl.solver.saliency import contrast_logits, input_saliency, saliency_logits
from tests import oracle
from tests.problems import SmoothTeacher, natural_images, random_weights


@pytest.mark.parametrize(("size", "grid"), [((12, 12), (4, 4)), ((10, 13), (3, 5)), ((6, 6), (6, 6))])
@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_equals_the_oracle(size: tuple[int, int], grid: tuple[int, int], sigma: float) -> None:
    teacher, images = SmoothTeacher().requires_grad_(False), natural_images(5, size)
    members = torch.tensor([[0, 1, 2], [3, 4, 0], [2, 2, 2]])
    logits, saliency = input_saliency(teacher, images, None)
    torch.testing.assert_close(logits, teacher(images))
    classes = logits.argmax(dim=1)
    ones = [
        oracle.saliency_one(teacher, image, int(label), mask_size=grid, sigma=sigma)
        for image, label in zip(images, classes, strict=True)
    ]
    expected = torch.stack([oracle.saliency_init([ones[row] for row in rows]) for rows in members.tolist()])
    torch.testing.assert_close(saliency_logits(saliency, members, grid, sigma), expected)
    weights = random_weights(3, 3)
    ones = [
        oracle.saliency_one(teacher, image, int(label), mask_size=grid, sigma=4 * sigma)
        for image, label in zip(images, classes, strict=True)
    ]
    expected = torch.stack(
        [
            oracle.contrast_init([ones[row] for row in rows], weights[i].tolist())
            for i, rows in enumerate(members.tolist())
        ]
    )
    torch.testing.assert_close(contrast_logits(saliency, members, weights, grid, sigma), expected)


def test_given_classes_are_asked_for() -> None:
    teacher, images = SmoothTeacher().requires_grad_(False), natural_images(4)
    classes = torch.tensor([5, 0, 1, 1])
    saliency = input_saliency(teacher, images, classes)[1]
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(teacher(leaf)[torch.arange(4), classes].sum(), leaf)
    torch.testing.assert_close(saliency, (images * gradient).abs().sum(dim=1))
    assert not torch.allclose(saliency, input_saliency(teacher, images, None)[1])


def test_images_are_left_alone() -> None:
    images = natural_images(3)
    before = images.clone()
    input_saliency(SmoothTeacher(), images, None)
    assert torch.equal(images, before)
    assert not images.requires_grad


def test_standardised_within_the_set() -> None:
    saliency = torch.rand(4, 12, 12, generator=torch.Generator().manual_seed(0))
    logits = saliency_logits(saliency, torch.tensor([[0, 1], [2, 3]]), (4, 4), 1.0)
    torch.testing.assert_close(logits.mean(dim=(1, 2, 3)), torch.zeros(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(logits.square().mean(dim=(1, 2, 3)), torch.ones(2))
    brighter = saliency_logits(
        saliency * torch.tensor([9.0, 1, 1, 1])[:, None, None], torch.tensor([[0, 1]]), (4, 4), 1.0
    )
    assert brighter[0, 0].mean() > logits[0, 0].mean()


def test_no_saliency_at_all_starts_at_zero() -> None:
    assert torch.equal(
        saliency_logits(torch.zeros(2, 8, 8), torch.tensor([[0, 1]]), (4, 4), 1.0), torch.zeros(1, 2, 4, 4)
    )


def two_lights() -> torch.Tensor:
    """The saliency of two images: one on the left, one on the right and twenty times as strong."""
    saliency = torch.full((2, 8, 8), 0.1)
    saliency[0, :, :4], saliency[1, :, 4:] = 1.0, 1.0
    saliency[1] *= 20.0
    return saliency


def test_contrast_gives_each_place_to_the_source_that_is_salient_there() -> None:
    logits = contrast_logits(two_lights(), torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.5]]), (4, 4), 0.0)
    assert logits.amax(dim=1).eq(0).all()
    torch.testing.assert_close(logits[0, 0, :, 2:], torch.full((4, 2), -3.4))
    torch.testing.assert_close(logits[0, 1, :, :2], torch.full((4, 2), -3.4))
    torch.testing.assert_close(logits[0, 0].flip(1), logits[0, 1])


def test_contrast_of_a_brighter_image_is_the_same() -> None:
    members, weights = torch.tensor([[0, 1]]), torch.tensor([[0.4, 0.6]])
    brighter = two_lights() * torch.tensor([9.0, 1.0])[:, None, None]
    torch.testing.assert_close(
        contrast_logits(brighter, members, weights, (4, 4), 1.0),
        contrast_logits(two_lights(), members, weights, (4, 4), 1.0),
    )


def test_contrast_starts_with_more_of_a_heavier_source() -> None:
    members = torch.tensor([[0, 1], [0, 1]])
    weights = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    logits = contrast_logits(two_lights(), members, weights, (4, 4), 1.0)
    difference = logits[:, 0] - logits[:, 1]
    torch.testing.assert_close(difference[1] - difference[0], torch.full((4, 4), math.log(9)))


def test_contrast_of_a_weight_of_zero_and_of_no_saliency_is_finite() -> None:
    members, weights = torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0]])
    logits = contrast_logits(torch.zeros(2, 8, 8), members, weights, (4, 4), 1.0)
    assert logits[0, 0].eq(0).all()
    torch.testing.assert_close(logits[0, 1], torch.full((4, 4), math.log(1e-3)))


def test_contrast_of_one_source_alone_is_zero() -> None:
    logits = contrast_logits(two_lights(), torch.tensor([[1], [0]]), torch.ones(2, 1), (4, 4), 1.0)
    assert logits.eq(0).all()
