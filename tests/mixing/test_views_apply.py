"""Showing mixes: whose chance it is, that it is put back, and what gradients pass."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from supermix_pl.mixing.views import Viewer, has_stable_repr, keeps_graph, seeded
from supermix_pl.transforms import PerImage, RandomCropFlip, RandomResizedCropFlip, View

KEYS = torch.arange(4) * 7919
LOOKS = torch.tensor([0, 0, 1, 5])
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def draw_everywhere() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


@pytest.fixture(autouse=True)
def keep_generators() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])


class Noting:
    """A transform that draws from every global generator, and notes what came."""

    def __init__(self) -> None:
        self.drawn: list[tuple[float, float, float]] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.drawn.append(draw_everywhere())
        return images + sum(self.drawn[-1])


def test_nothing_is_shown_as_it_is() -> None:
    assert Viewer(None, (0,))(IMAGES, KEYS, LOOKS) is IMAGES


@pytest.mark.parametrize("view", [RandomCropFlip(), RandomResizedCropFlip()])
def test_a_view_is_drawn_from_key_and_look_whatever_the_seed(view: View) -> None:
    expected = view.apply(IMAGES, view.draw(KEYS, LOOKS, (8, 8)))
    viewer = Viewer(view, (0,))
    for one in (viewer, viewer, Viewer(view, (1,))):
        assert one(IMAGES, KEYS, LOOKS).equal(expected)
    assert viewer(IMAGES[2:], KEYS[2:], LOOKS[2:]).equal(expected[2:])


def test_other_transforms_draw_from_the_seed_and_the_number_of_the_call() -> None:
    noting = Noting()
    for seed in ((0, 1), (0, 1), (0, 2)):
        viewer = Viewer(noting, seed)
        for _ in range(2):
            viewer(IMAGES, KEYS, LOOKS)
    first, second, again, same, other, another = noting.drawn
    assert (first, second) == (again, same)
    for generator in range(3):  # each of them moves on
        assert len({drawn[generator] for drawn in (first, second, other, another)}) == 4


@pytest.mark.usefixtures("unchecked")  # beartype itself draws from `random`
def test_the_global_generators_are_put_back() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    expected = draw_everywhere()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    Viewer(Noting(), (0,))(IMAGES, KEYS, LOOKS)
    with seeded((3,)):
        draw_everywhere()
    keeps_graph(Noting(), IMAGES)
    assert draw_everywhere() == expected


@pytest.mark.parametrize("transform", [None, RandomCropFlip(), lambda images: images * 1.01])
def test_the_teacher_sees_what_is_left_in_the_students_precision(transform: Any) -> None:
    rounded = Viewer(transform, (0,), torch.bfloat16)(IMAGES, KEYS, LOOKS)
    exact = Viewer(transform, (0,))(IMAGES, KEYS, LOOKS)
    assert rounded.dtype == torch.float32
    assert rounded.equal(exact.bfloat16().float())
    assert not rounded.equal(exact)


@pytest.mark.parametrize("change", [lambda images: images[:2], lambda images: images.flatten(1), list, lambda _: None])
def test_what_is_no_batch_of_images_is_refused(change: Callable[[Tensor], Any]) -> None:
    with pytest.raises(ValueError, match=r"expected mixed_transform to give 4 images \(b, c, h, w\), got "):
        Viewer(change, (0,))(IMAGES, KEYS, LOOKS)


# Gradients


class Rounding(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images * 255).round() / 255


def through_numpy(images: Tensor) -> Tensor:
    return torch.from_numpy(images.numpy() + 1)


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (RandomCropFlip(), True),
        (RandomResizedCropFlip(), True),
        (v2.RandomHorizontalFlip(), True),
        (v2.RandomCrop(8, padding=1), True),
        (v2.RandomAffine(10), True),  # pyright: ignore
        (PerImage(v2.RandomHorizontalFlip()), True),
        (lambda images: images + torch.randn_like(images), True),
        (lambda images: images.mul_(0.9).add_(0.1), True),
        (v2.ToDtype(torch.float64), True),
        (Rounding(), False),
        (PerImage(v2.ToDtype(torch.uint8, scale=True)), False),
        (PerImage(v2.RandAugment()), False),
        (lambda images: images.detach() + 1, False),
        (lambda images: torch.zeros_like(images), False),
        (torch.no_grad()(lambda images: images + 1), False),
        (through_numpy, False),
        (v2.RandomRotation(10, interpolation=InterpolationMode.BILINEAR), False),  # pyright: ignore
        (v2.RandomPerspective(p=1), False),
        (v2.ColorJitter(brightness=0.2), True),
        (v2.ColorJitter(hue=0.1), False),
    ],
)
def test_what_gradients_flow_through(transform: Any, expected: bool) -> None:
    assert keeps_graph(transform, IMAGES) == expected
    with torch.no_grad():
        assert keeps_graph(transform, IMAGES[:1]) == expected
    assert not IMAGES.requires_grad
    assert IMAGES.grad is None


class Often:
    """Breaks the graph in a quarter of its draws."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images.round() if torch.rand(()) < 0.25 else images + 1


class Unhashable(Often):
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __eq__(self, other: object) -> bool:
        return self is other


def test_one_draw_that_lets_a_gradient_through_is_not_enough() -> None:
    assert not keeps_graph(Often(), IMAGES)
    assert not keeps_graph(lambda images: torch.cat([images[:1], images[1:].detach()]), IMAGES)


@pytest.mark.parametrize(
    "breaking",
    [
        torch.Tensor.detach,
        through_numpy,
        v2.ToDtype(torch.uint8, scale=True),
        v2.RandomRotation([10, 10], interpolation=InterpolationMode.BILINEAR),  # pyright: ignore
        v2.ColorJitter(hue=(0.1, 0.1)),
    ],
)
def test_a_later_draw_that_breaks_the_graph_has_a_gradient_of_zero(breaking: Any) -> None:
    leaf = IMAGES.clone().requires_grad_()
    shown = Viewer(breaking, (0,))(leaf * 1, KEYS, LOOKS)
    assert shown.equal(breaking(IMAGES).to(IMAGES.dtype))
    (gradient,) = torch.autograd.grad(shown.sum(), leaf)
    assert gradient.equal(torch.zeros_like(leaf))


def test_a_transform_is_tried_once() -> None:
    often, unhashable = Often(), Unhashable()
    for _ in range(3):
        assert not keeps_graph(often, IMAGES)
        assert not keeps_graph(unhashable, IMAGES)
    assert unhashable.calls == 3 * often.calls


def test_errors_of_a_transform_are_its_own() -> None:
    def wrong(images: Tensor) -> Tensor:
        return images @ torch.zeros(3, 3)

    with pytest.raises(RuntimeError, match="shape"):
        keeps_graph(wrong, IMAGES)


def test_kornia_is_differentiable() -> None:
    augmentation = pytest.importorskip("kornia.augmentation")
    crop = augmentation.AugmentationSequential(
        augmentation.RandomCrop((8, 8), padding=1), augmentation.RandomHorizontalFlip()
    )
    assert keeps_graph(crop, IMAGES)
    viewer = Viewer(crop, (0,))
    first, second = viewer(IMAGES, KEYS, LOOKS), viewer(IMAGES, KEYS, LOOKS)
    assert first.shape == IMAGES.shape
    assert not first.equal(second)
    assert Viewer(crop, (0,))(IMAGES, KEYS, LOOKS).equal(first)
    assert not Viewer(crop, (1,))(IMAGES, KEYS, LOOKS).equal(first)
    shifts = [(image != other).any().item() for image, other in zip(first, first.roll(1, dims=0), strict=True)]
    assert all(shifts)
    assert has_stable_repr(crop)


# Names


class Nameless:
    def __call__(self, images: Tensor) -> Tensor:
        return images


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (RandomCropFlip(), True),
        (RandomResizedCropFlip(scale=(0.5, 0.7)), True),
        (v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(8)]), True),
        (PerImage(v2.RandAugment()), True),
        (Nameless(), False),
        (lambda images: images, False),
        (draw_everywhere, False),
        (v2.Lambda(lambda images: images), False),
        (PerImage(Nameless()), False),
    ],
)
def test_whose_repr_names_settings(transform: Any, expected: bool) -> None:
    assert has_stable_repr(transform) == expected
