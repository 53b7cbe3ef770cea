"""What mixers say of bad input: what was expected, what came and what to do, before a set is solved."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supermix_pl import CutMix, FrozenTeacher, MixUp, SuperMix
from supermix_pl.mixing import Mixer
from supermix_pl.mixing.blind import BlindMixer
from supermix_pl.solver import SGD
from supermix_pl.transforms import RandomCropFlip
from tests.problems import NUM_CLASSES, Counting, SmoothTeacher, natural_images

pytestmark = pytest.mark.usefixtures("unchecked")

SUPERMIX = SuperMix(mask_size=4, max_steps=2)
each_mixer = pytest.mark.parametrize("mixer", [SUPERMIX, MixUp(), CutMix()], ids=lambda mixer: type(mixer).__name__)


def raises(kind: type[Exception], *parts: str) -> Any:
    """Expect an error that says all of this, in this order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(re.escape(part) for part in parts))


# Arguments


@pytest.mark.parametrize("kind", [SuperMix, MixUp, CutMix])
@pytest.mark.parametrize("k", [0, -1, 2.0, "2", None, True])
def test_k(kind: Any, k: Any) -> None:
    with raises(ValueError, "expected k to be an integer >= 1, got", repr(k)):
        kind(k=k)


@pytest.mark.parametrize("kind", [SuperMix, MixUp, CutMix])
@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_alpha(kind: Any, alpha: float) -> None:
    with raises(ValueError, "expected alpha > 0, got", str(alpha)):
        kind(alpha=alpha)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"lambda_s": -0.1}, "expected lambda_s >= 0, got -0.1"),
        ({"lambda_s": float("nan")}, "expected lambda_s >= 0, got nan"),
        ({"sigma": -1.0}, "expected sigma >= 0, got -1.0"),
        ({"mask_size": 0}, "expected mask_size to be an integer >= 1, got 0"),
        ({"mask_size": (4, 0)}, "expected mask_size to be an integer >= 1, got 0"),
        ({"mask_size": (4, 4, 4)}, "expected mask_size as a side or (height, width), got (4, 4, 4)"),
        ({"min_steps": -1}, "expected min_steps to be an integer >= 0, got -1"),
        ({"max_steps": 0}, "expected max_steps to be an integer >= 1, got 0"),
        ({"min_steps": 5, "max_steps": 4}, "expected max_steps >= min_steps, got 4 and 5"),
        ({"max_logit_step": 0.0}, "expected max_logit_step > 0, got 0.0"),
        ({"momentum": 1.0}, "expected momentum in [0, 1), got 1.0"),
        ({"lambda_s": "25"}, "expected lambda_s >= 0, got '25'"),
        ({"sigma": None}, "expected sigma >= 0, got None"),
        ({"mask_size": 8.0}, "expected mask_size as a side or (height, width), got 8.0"),
        ({"update_rule": SGD}, "expected update_rule to be one of newton_sp, newton, sgd"),
        ({"momentum": float("nan")}, "expected momentum in [0, 1), got nan"),
        ({"pairing": "next"}, "expected pairing to be one of shift, random, distinct, got 'next'"),
        ({"init": "ones"}, "expected init to be one of zeros, saliency, contrast, got 'ones'"),
        ({"update_rule": "adam"}, "expected update_rule to be one of newton_sp, newton, sgd, got 'adam'"),
        ({"objective": "kl"}, "expected objective to be one of paper, margin, criterion, got 'kl'"),
        ({"classes": "given"}, "expected classes to be one of teacher, labels, got 'given'"),
        ({"on_unsolved": "drop"}, "expected on_unsolved to be one of keep, source, mixup, got 'drop'"),
        ({"views": "crop"}, "expected views to be one of auto, got 'crop'"),
        ({"early_stop": 1}, "expected early_stop to be True or False, got 1"),
        ({"early_stop": True, "views": "auto"}, "expected early_stop=False with views, got early_stop=True: one lucky"),
        ({"early_stop": True, "views": RandomCropFlip()}, "one lucky view would end a set; max_steps sets the number"),
    ],
)
def test_arguments_of_supermix(arguments: dict[str, Any], expected: str) -> None:
    with raises(ValueError, expected):
        SuperMix(**arguments)


@pytest.mark.parametrize("views", [3, RandomCropFlip])
def test_views_that_are_no_transform(views: Any) -> None:
    with raises(TypeError, "expected views to take and give images, got", repr(views)):
        SuperMix(views=views)


@pytest.mark.parametrize("kind", [MixUp, CutMix])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"pairing": "next"}, "expected pairing to be one of shift, random, distinct, got 'next'"),
        ({"num_classes": 0}, "expected num_classes to be an integer >= 1, got 0"),
    ],
)
def test_arguments_of_blind_mixers(kind: type[BlindMixer], arguments: dict[str, Any], expected: str) -> None:
    with raises(ValueError, expected):
        kind(**arguments)


def test_unknown_arguments() -> None:
    with raises(TypeError, "lamda_s"):
        SuperMix(lamda_s=3.0)  # pyright: ignore[reportCallIssue]


# Images


@pytest.mark.parametrize(
    "shape", [(3, 12, 12), (2, 4, 3, 12, 12), (12,), (0, 3, 12, 12), (4, 0, 12, 12), (4, 3, 0, 12)]
)
@each_mixer
def test_shape_of_images(mixer: Mixer, shape: tuple[int, ...]) -> None:
    with raises(ValueError, "expected images of shape (b, c, h, w) with b >= 1, got", str(shape)):
        mixer(SmoothTeacher(), torch.zeros(shape), seed=0)


@each_mixer
def test_images_that_are_no_tensor(mixer: Mixer) -> None:
    with raises(ValueError, "expected images of shape (b, c, h, w)", "got ndarray"):
        mixer(SmoothTeacher(), np.zeros((4, 3, 12, 12)), seed=0)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
@each_mixer
def test_integer_images(mixer: Mixer, dtype: torch.dtype) -> None:
    with raises(ValueError, "expected floating point images, got", str(dtype), "; convert and normalise them"):
        mixer(SmoothTeacher(), torch.zeros(4, 3, 12, 12, dtype=dtype), seed=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@each_mixer
def test_images_that_are_not_finite(mixer: Mixer, value: float) -> None:
    images = natural_images(4)
    images[2, 1, 3, 4] = value
    counting = Counting(SmoothTeacher())
    with raises(ValueError, "expected finite images, got some with NaN or infinite pixels; look at"):
        mixer(counting, images, seed=0)
    assert counting.forwards == 0


# Labels


LABELLED: list[Any] = [SuperMix(mask_size=4, max_steps=2, classes="labels"), MixUp(), CutMix()]


@pytest.mark.parametrize(
    ("labels", "came"),
    [
        (torch.zeros(3, dtype=torch.long), "torch.int64 of shape (3,)"),
        (torch.zeros(4, 1, dtype=torch.long), "torch.int64 of shape (4, 1)"),
        (torch.zeros(4), "torch.float32 of shape (4,)"),
        (torch.zeros(4, dtype=torch.bool), "torch.bool of shape (4,)"),
    ],
)
@pytest.mark.parametrize("mixer", LABELLED)
def test_labels_of_another_kind(mixer: Mixer, labels: Tensor, came: str) -> None:
    with raises(ValueError, "expected integer labels of shape (4,), got", came):
        mixer(SmoothTeacher(), natural_images(4), labels, seed=0)


@pytest.mark.parametrize("labels", [np.zeros(4, dtype=int), [0, 1, 2, 3]])
@pytest.mark.parametrize("mixer", [*LABELLED, SUPERMIX])
def test_labels_that_are_no_tensor(mixer: Mixer, labels: Any) -> None:
    with raises(ValueError, f"expected labels as a tensor of class indices, got {type(labels).__name__}"):
        mixer(SmoothTeacher(), natural_images(4), labels, seed=0)


@pytest.mark.parametrize(("labels", "came"), [([0, 1, 2, 6], "from 0 to 6"), ([-1, 1, 2, 3], "from -1 to 3")])
@pytest.mark.parametrize("mixer", LABELLED)
def test_labels_that_the_teacher_does_not_know(mixer: Mixer, labels: list[int], came: str) -> None:
    with raises(ValueError, "expected labels in [0, 6)", "got labels", came, "must share the classes and their order"):
        mixer(SmoothTeacher(), natural_images(4), torch.tensor(labels), seed=0)


def test_classes_from_labels_without_labels() -> None:
    with raises(ValueError, 'expected labels for classes="labels", got None; give them or choose classes="teacher"'):
        LABELLED[0](SmoothTeacher(), natural_images(4), seed=0)


@pytest.mark.parametrize("seed", [-1, (0, -1), (), 1.5, None, "0", (0.5,)])
@each_mixer
def test_seed(mixer: Mixer, seed: Any) -> None:
    with raises(ValueError, "expected seed to be a non-negative integer or a sequence of them, got", repr(seed)):
        mixer(SmoothTeacher(), natural_images(4), seed=seed)


@each_mixer
def test_seed_is_required(mixer: Any) -> None:
    with raises(TypeError, "seed"):
        mixer(SmoothTeacher(), natural_images(4))


# Teachers


def test_supermix_without_a_teacher() -> None:
    with raises(ValueError, "expected a teacher to supervise the masks, got None; MixUp and others do without"):
        SUPERMIX(None, natural_images(4), torch.zeros(4).long(), seed=0)


@pytest.mark.parametrize("mixer", [MixUp(), CutMix()])
def test_blind_mixers_without_labels_or_number_of_classes(mixer: Mixer) -> None:
    with raises(ValueError, "expected labels or a teacher to give the classes of the images, got neither"):
        mixer(None, natural_images(4), seed=0)
    with raises(ValueError, "expected num_classes where there is no teacher to tell it, got None; give num_classes="):
        mixer(None, natural_images(4), torch.zeros(4).long(), seed=0)


@each_mixer
def test_a_teacher_that_is_no_module(mixer: Any) -> None:
    with raises(TypeError, "expected the teacher to be an nn.Module, got function; to build it late"):
        mixer(lambda images: images, natural_images(4), seed=0)


class Reshaped(nn.Module):
    """Gives something else than logits (b, n)."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.body = SmoothTeacher()
        self.change = change

    def forward(self, images: Tensor) -> Any:
        return self.change(self.body(images))


@pytest.mark.parametrize(
    ("change", "kind", "expected"),
    [
        (lambda x: x[:, :, None, None], ValueError, "got torch.float64 of shape (4, 6, 1, 1); pool or flatten them"),
        (lambda x: x.sum(dim=1), ValueError, "got torch.float64 of shape (4,); pool or flatten them"),
        (lambda x: x.argmax(dim=1, keepdim=True), ValueError, "got torch.int64 of shape (4, 1)"),
        (lambda x: (x, x), TypeError, "a mapping with 'logits', got tuple; wrap the teacher in a module that"),
        (lambda _: None, TypeError, "got NoneType; wrap the teacher"),
        (lambda x: {"prediction": x}, TypeError, "got dict; wrap the teacher"),
        (lambda x: torch.cat([x, x]), ValueError, "expected the teacher to give 4 rows of logits, got 8"),
    ],
)
@each_mixer
def test_a_teacher_that_gives_no_logits(mixer: Mixer, change: Any, kind: type[Exception], expected: str) -> None:
    with raises(kind, expected):
        mixer(Reshaped(change), natural_images(4), seed=0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@each_mixer
def test_a_teacher_that_gives_nothing_finite(mixer: Mixer, value: float) -> None:
    with raises(
        ValueError, "expected finite logits from the teacher, got NaN or infinity for every image", "; look at"
    ):
        mixer(Reshaped(lambda x: x * value), natural_images(4), seed=0)


class Fixed(nn.Module):
    """Takes images of 12 x 12 pixels only, as transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = SmoothTeacher()

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-2:] == (12, 12), "wants 12 x 12"
        return self.body(images)


@each_mixer
def test_a_teacher_of_another_image_size(mixer: Mixer) -> None:
    expected = (
        "the teacher failed on images of shape (4, 3, 9, 9)",
        "wants 12 x 12",
        "FrozenTeacher(module, image_size=",
    )
    with raises(ValueError, *expected):
        mixer(Fixed(), natural_images(4, (9, 9)), seed=0)
    assert mixer(FrozenTeacher(Fixed(), image_size=12), natural_images(4, (9, 9)), seed=0).images.shape[-2:] == (9, 9)


@each_mixer
def test_a_teacher_of_another_number_of_channels(mixer: Mixer) -> None:
    with raises(ValueError, "the teacher failed on images of shape (4, 1, 12, 12)", "channels"):
        mixer(SmoothTeacher(), natural_images(4, channels=1), seed=0)


@each_mixer
def test_a_linear_teacher_of_another_image_size(mixer: Mixer) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, NUM_CLASSES))
    with raises(ValueError, "the teacher failed on images of shape (4, 3, 9, 9)", "shapes cannot be multiplied"):
        mixer(linear, natural_images(4, (9, 9)), seed=0)


@each_mixer
def test_statistics_for_another_number_of_channels(mixer: Mixer) -> None:
    teacher = FrozenTeacher(SmoothTeacher(), mean=[0.5, 0.5], std=[0.2, 0.2])
    with raises(ValueError, "expected images with 2 channels, as many as the teacher's mean and std have, got 3"):
        mixer(teacher, natural_images(4), seed=0)


@each_mixer
@pytest.mark.filterwarnings("ignore:the teacher ran out of memory with 4 images at once")  # SuperMix tries halves
def test_running_out_of_memory_is_not_blamed_on_the_teacher(mixer: Mixer) -> None:
    class Greedy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("no memory left")

    with raises(torch.OutOfMemoryError, "no memory left"):
        mixer(Greedy(), natural_images(4), seed=0)
