"""Networks of timm and torchvision by one call, and teachers of more classes than the labels have."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision

from supermix_pl import FrozenTeacher, SuperMix
from tests.problems import NUM_CLASSES, SmoothTeacher, natural_images

INCEPTION = (0.5, 0.5, 0.5)  # what timm's Inceptions were normalised with
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixels() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("build", "given", "statistics"),
    [
        (FrozenTeacher.from_timm, "test_resnet.r160_in1k", ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
        (FrozenTeacher.from_torchvision, torchvision.models.ResNet18_Weights.IMAGENET1K_V1, IMAGENET),
        (FrozenTeacher.from_torchvision, "SqueezeNet1_1_Weights.DEFAULT", IMAGENET),
    ],
    ids=["timm", "torchvision", "torchvision by name"],
)
def test_a_published_network_has_its_own_normalisation(build: Callable[..., Any], given: Any, statistics: Any) -> None:
    teacher = build(given, pretrained=False, input_mean=(0.1, 0.2, 0.3), input_std=(1.0, 2.0, 3.0))
    assert (tuple(teacher.mean), tuple(teacher.std)) == statistics
    own = torch.tensor(statistics)[:, :, None, None]
    shown = pixels() * torch.tensor([1.0, 2.0, 3.0])[:, None, None] + torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    torch.testing.assert_close(teacher.prepare(pixels()), (shown - own[0]) / own[1])
    assert teacher(pixels()).shape == (2, 1000)


def test_networks_of_timm_take_more_arguments() -> None:
    teacher = FrozenTeacher.from_timm("test_resnet", pretrained=False, network={"num_classes": 7}, mean=INCEPTION)
    assert teacher(pixels()).shape == (2, 7)
    assert teacher.mean == INCEPTION


@pytest.mark.parametrize("weights", [None, torchvision.models.segmentation.FCN_ResNet50_Weights.DEFAULT])
def test_weights_of_no_classifier_are_refused(weights: Any) -> None:
    with pytest.raises(ValueError, match="expected weights of a classifier of torchvision, such as"):
        FrozenTeacher.from_torchvision(weights, pretrained=False)


def test_class_indices_choose_and_order_the_logits() -> None:
    images = natural_images(4)
    teacher = FrozenTeacher(SmoothTeacher(), class_indices=[2, 0])
    assert teacher.num_classes == 2
    assert "class_indices=[2, 0]" in repr(teacher)
    torch.testing.assert_close(teacher(images), FrozenTeacher(SmoothTeacher())(images)[:, [2, 0]])
    mix = SuperMix(max_steps=2)(teacher, images, seed=0)
    assert mix.soft_targets.shape == (4, 2)
    assert mix.teacher_logits is not None
    torch.testing.assert_close(mix.teacher_logits, teacher(mix.images))


def test_labels_beyond_the_chosen_classes_are_refused() -> None:
    teacher = FrozenTeacher(SmoothTeacher(), class_indices=[2, 0])
    with pytest.raises(ValueError, match=r"expected labels in \[0, 2\)"):
        SuperMix(classes="labels")(teacher, natural_images(4), torch.tensor([0, 1, 2, 0]), seed=0)


@pytest.mark.parametrize("chosen", [[], [1], [0, 0], [-1, 0]])
def test_class_indices_that_name_no_classes_are_refused(chosen: list[int]) -> None:
    with pytest.raises(ValueError, match="expected class_indices as two or more different indices"):
        FrozenTeacher(SmoothTeacher(), class_indices=chosen)


@pytest.mark.usefixtures("unchecked")
def test_class_indices_of_another_kind_are_refused() -> None:
    chosen: Any = "a"
    with pytest.raises(ValueError, match="two or more different indices of the teacher's classes, from 0 on, got 'a'"):
        FrozenTeacher(SmoothTeacher(), class_indices=chosen)


def test_class_indices_beyond_the_teachers_classes_are_refused() -> None:
    teacher = FrozenTeacher(SmoothTeacher(), class_indices=[0, NUM_CLASSES])
    with pytest.raises(ValueError, match=rf"expected class_indices in \[0, {NUM_CLASSES}\)"):
        teacher(natural_images(4))
