"""The frozen teacher: its own inputs, what it may give, what it may be, and where it must not turn up."""

import copy
import math
import re
import shutil
from collections import UserDict
from dataclasses import dataclass
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from supermix_pl import FrozenTeacher, SuperMix, SuperMixCallback
from supermix_pl.mixing import PuzzleMix
from supermix_pl.teacher.frozen import as_teacher
from tests.problems import NUM_CLASSES, SmoothTeacher, natural_images

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]).double(), torch.tensor([0.2, 0.25, 0.3]).double()
OWN_MEAN, OWN_STD = torch.tensor([0.1, 0.2, -0.1]).double(), torch.tensor([1.0, 0.7, 0.4]).double()


def per_channel(statistic: Tensor) -> Tensor:
    return statistic[:, None, None]


def pixels(count: int = 4) -> Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Wrapped(nn.Module):
    """A teacher whose logits go through a function."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.body = SmoothTeacher()
        self.change = change

    def forward(self, images: Tensor) -> Any:
        return self.change(self.body(images))


# Normalisation, size, dtype


@pytest.mark.parametrize("buffers", [False, True])
def test_weights_that_let_no_gradient_through_are_refused(buffers: bool) -> None:
    with torch.inference_mode():
        module = nn.BatchNorm2d(3, affine=not buffers, track_running_stats=buffers)
    with pytest.raises(ValueError, match=r"weights of BatchNorm2d to be made outside of torch\.inference_mode"):
        FrozenTeacher(module)


class Lost(torch.autograd.Function):
    """Gives no gradient, as quantised layers do."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None


@pytest.mark.parametrize("mixer", [SuperMix(mask_size=2, max_steps=1), SuperMix.fast(), PuzzleMix()])
def test_a_gradient_that_gets_lost_on_its_way_is_told_of(mixer: Any) -> None:
    class Losing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return Lost.apply(images.mean(dim=(2, 3)))

    with pytest.raises(ValueError, match=r"expected the teacher's logits to have a gradient .* quantised layers"):
        mixer(Losing(), torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]), seed=0)


def test_images_pass_as_they_are_by_default() -> None:
    images = pixels()
    assert FrozenTeacher(SmoothTeacher()).prepare(images) is images


def test_own_normalisation_of_images_in_0_to_1() -> None:
    teacher = FrozenTeacher(SmoothTeacher(), mean=OWN_MEAN.tolist(), std=OWN_STD.tolist())
    expected = (pixels() - per_channel(OWN_MEAN)) / per_channel(OWN_STD)
    torch.testing.assert_close(teacher.prepare(pixels()), expected)
    torch.testing.assert_close(teacher(pixels()), SmoothTeacher()(expected))


def test_normalised_batches_for_a_teacher_of_images_in_0_to_1() -> None:
    teacher = FrozenTeacher(SmoothTeacher(), input_mean=MEAN.tolist(), input_std=STD.tolist())
    batch = (pixels() - per_channel(MEAN)) / per_channel(STD)
    torch.testing.assert_close(teacher.prepare(batch), pixels())


def test_from_the_batchs_normalisation_to_the_teachers_own() -> None:
    teacher = FrozenTeacher(
        SmoothTeacher(),
        mean=OWN_MEAN.tolist(),
        std=OWN_STD.tolist(),
        input_mean=MEAN.tolist(),
        input_std=STD.tolist(),
    )
    batch = (pixels() - per_channel(MEAN)) / per_channel(STD)
    torch.testing.assert_close(teacher.prepare(batch), (pixels() - per_channel(OWN_MEAN)) / per_channel(OWN_STD))


def test_the_same_normalisation_on_both_sides_changes_nothing() -> None:
    mean, std = MEAN.tolist(), STD.tolist()
    teacher = FrozenTeacher(SmoothTeacher(), mean=mean, std=std, input_mean=mean, input_std=std)
    torch.testing.assert_close(teacher.prepare(pixels()), pixels(), rtol=0, atol=1e-15)


def test_one_statistic_for_any_number_of_channels() -> None:
    teacher = FrozenTeacher(SmoothTeacher(channels=1), mean=[0.5], std=[0.25])
    torch.testing.assert_close(teacher.prepare(pixels()), (pixels() - 0.5) / 0.25)


def test_normalisation_is_exact_in_each_dtype_whatever_came_before() -> None:
    statistics: dict[str, Any] = {"mean": OWN_MEAN.tolist(), "std": OWN_STD.tolist()}
    used, fresh = (FrozenTeacher(SmoothTeacher(), **statistics) for _ in range(2))
    for dtype in (torch.bfloat16, torch.float32):
        used(pixels().to(dtype))
    assert used.prepare(pixels()).equal(fresh.prepare(pixels()))


def test_images_are_resized_only_if_asked() -> None:
    teacher = FrozenTeacher(SmoothTeacher(), image_size=(6, 20))
    expected = F.interpolate(pixels(), (6, 20), mode="bilinear", antialias=True)
    torch.testing.assert_close(teacher.prepare(pixels()), expected)
    assert FrozenTeacher(SmoothTeacher(), image_size=24).prepare(pixels()).shape == (4, 3, 24, 24)
    images = pixels()
    assert FrozenTeacher(SmoothTeacher(), image_size=12).prepare(images) is images


def test_a_resized_teacher_still_guides_the_solver() -> None:
    mix = SuperMix(mask_size=4, max_steps=4)(FrozenTeacher(SmoothTeacher(), image_size=24), pixels(), seed=0)
    assert mix.images.shape == (4, 3, 12, 12)
    assert mix.teacher_backwards > 0


@pytest.mark.parametrize("weights", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("images", [torch.float32, torch.float64, torch.bfloat16])
def test_passes_run_in_the_weights_dtype_and_logits_come_in_the_images(
    weights: torch.dtype, images: torch.dtype
) -> None:
    seen: list[torch.dtype] = []
    module = SmoothTeacher().to(weights)
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    logits = FrozenTeacher(module)(pixels().to(images))
    assert seen == [weights]
    assert logits.dtype == (torch.float64 if images == torch.float64 else torch.float32)


class Linear(nn.Module):
    """Shows in which dtype the products are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 12 * 12, NUM_CLASSES)
        self.products: list[torch.dtype] = []

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(images.flatten(1))
        self.products.append(logits.dtype)
        return logits


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16", "torch.bfloat16"])
def test_bfloat16_is_autocast(dtype: Any) -> None:
    module = Linear()
    teacher = FrozenTeacher(module, dtype=dtype)
    images = pixels().float().requires_grad_()
    logits = teacher(images)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert module.products == [torch.bfloat16]
    assert logits.dtype == gradient.dtype == torch.float32
    assert module.head.weight.dtype == torch.float32
    torch.testing.assert_close(logits, module.head(images.flatten(1)), rtol=0, atol=0.02)


def test_an_outer_autocast_does_not_reach_the_teacher() -> None:
    module = Linear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = FrozenTeacher(module)(pixels().float())
    assert module.products == [torch.float32]
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, "float32", "torch.float32"])
def test_the_weights_own_dtype_needs_no_autocast(dtype: Any) -> None:
    assert FrozenTeacher(Linear(), dtype=dtype).autocast_dtype is None


# Speed; see test_folding.py


class Formats(nn.Module):
    """Shows in which memory format images and features come."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean(dim=(2, 3)))


def test_channels_last_is_for_images_and_private_copy() -> None:
    module = Formats().double()
    seen: list[bool] = []
    module.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    teacher = FrozenTeacher(module, channels_last=True)
    images = pixels().requires_grad_()
    (gradient,) = torch.autograd.grad(teacher(images).sum(), images)
    (expected,) = torch.autograd.grad(module(images).sum(), images)
    torch.testing.assert_close(gradient, expected)
    assert seen == [True, False]
    module._forward_pre_hooks.clear()
    weight = teacher.network(teacher.prepare(images)).get_parameter("features.0.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    own_weight = module.get_parameter("features.0.weight")
    assert own_weight.is_contiguous()
    assert not own_weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_passes_give_the_same_mixes() -> None:
    module = Formats()
    images = natural_images(5, dtype=torch.float32)
    mixer = SuperMix(mask_size=4, min_steps=3, max_steps=3)
    expected = mixer(FrozenTeacher(module), images, seed=0)
    teacher = FrozenTeacher(module, compile=True)
    mix = mixer(teacher, images, seed=0)
    for name in ("images", "teacher_logits", "natural_logits"):
        torch.testing.assert_close(getattr(mix, name), getattr(expected, name), rtol=1e-3, atol=1e-4)
    assert mix.teacher_forwards == expected.teacher_forwards  # the batch itself is a size to fill up to
    with torch.no_grad():
        module.head.bias.add_(1)
        torch.testing.assert_close(teacher(images), module(images), rtol=1e-4, atol=1e-5)


# Outputs


class Output(UserDict):
    """As Hugging Face's: a mapping that has its entries as attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["data"][name]
        except KeyError as error:
            raise AttributeError(name) from error


@dataclass
class Record:
    logits: Tensor


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: {"logits": x, "loss": None},
        lambda x: Output(logits=x, hidden_states=None),
        lambda x: Record(x),
    ],
)
def test_outputs_that_hold_logits(change: Any) -> None:
    teacher = FrozenTeacher(Wrapped(change))
    assert teacher.num_classes is None
    torch.testing.assert_close(teacher(pixels()), SmoothTeacher()(pixels()))
    assert teacher.num_classes == NUM_CLASSES


@pytest.mark.parametrize(
    ("change", "kind", "expected"),
    [
        (lambda x: x[0], ValueError, r"floating point of shape \(b, n\), got torch.float64 of shape \(6,\); pool"),
        (lambda x: x[:, None], ValueError, r"got torch.float64 of shape \(4, 1, 6\); pool or flatten them"),
        (lambda x: x.long(), ValueError, r"got torch.int64 of shape \(4, 6\)"),
        (lambda x: x[:, :1], ValueError, "of two or more classes, got one; of a single logit z"),
        (lambda x: x.softmax(dim=1), ValueError, "expected logits from the teacher, got probabilities"),
        (lambda x: x.softmax(dim=1).bfloat16(), ValueError, "expected logits from the teacher, got probabilities"),
        (lambda x: [x], TypeError, "expected the teacher to give a tensor of logits, .*got list; wrap the teacher"),
        (lambda x: {"scores": x}, TypeError, "a mapping with 'logits', got dict"),
        (lambda x: Record(x.tolist()), TypeError, "got list"),
    ],
)
def test_outputs_that_hold_none(change: Any, kind: type[Exception], expected: str) -> None:
    with pytest.raises(kind, match=expected):
        FrozenTeacher(Wrapped(change))(pixels())


def test_logarithms_of_probabilities_are_logits_and_one_image_alone_tells_nothing() -> None:
    expected = SmoothTeacher()(pixels()).log_softmax(dim=1)
    torch.testing.assert_close(FrozenTeacher(Wrapped(lambda x: x.log_softmax(dim=1)))(pixels()), expected)
    teacher = FrozenTeacher(Wrapped(lambda x: x.softmax(dim=1)), class_indices=[1, 0])
    assert teacher(pixels(1)).shape == (1, 2)
    with pytest.raises(ValueError, match="got probabilities"):
        teacher(pixels())


# Modules of others


def assert_supervises(module: nn.Module, side: int, num_classes: int, **arguments: Any) -> None:
    before = copy.deepcopy(module.state_dict())
    images = natural_images(3, (side, side), dtype=torch.float32)
    mix = SuperMix(mask_size=4, max_steps=2)(FrozenTeacher(module, **arguments), images, seed=0)
    assert mix.soft_targets.shape == (3, num_classes)
    assert mix.images.isfinite().all()
    assert mix.teacher_backwards > 0
    assert all(value.equal(before[name]) for name, value in module.state_dict().items())


def test_timm() -> None:
    transformer = timm.create_model("test_vit3", pretrained=False, num_classes=7)
    assert_supervises(transformer, 160, 7)
    with pytest.raises(ValueError, match=r"the teacher failed on images of shape \(2, 3, 32, 32\): .*image_size="):
        SuperMix()(transformer, natural_images(2, (32, 32), dtype=torch.float32), seed=0)
    assert_supervises(transformer, 32, 7, image_size=160)


def test_torchvision() -> None:
    assert_supervises(torchvision.models.mobilenet_v3_small(num_classes=5), 32, 5)


def test_hugging_face_in_kind() -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = SmoothTeacher().float()

        def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Output:
            return Output(loss=None, logits=self.body(pixel_values))

    assert_supervises(Classifier(), 12, NUM_CLASSES)


# What it must not be


@pytest.mark.parametrize("teacher", [lambda images: images, SmoothTeacher, None, "resnet18", {}])
@pytest.mark.usefixtures("unchecked")
def test_only_modules_are_wrapped(teacher: Any) -> None:
    kind = type(teacher).__name__
    with pytest.raises(TypeError, match=f"expected the teacher to be an nn.Module, got {kind}; to build it late, give"):
        FrozenTeacher(teacher)


def test_half_precision_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"got float16, whose input gradients underflow; convert it with `module.float"
    ):
        FrozenTeacher(nn.Linear(2, 2).half())


@pytest.mark.parametrize("dtype", [torch.float16, "float16", "half", torch.float64, "fp32", torch.int8])
def test_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(
        ValueError, match=r"expected dtype None \(the weights' own, torch.float32\) or torch.bfloat16, got"
    ):
        FrozenTeacher(nn.Linear(2, 2), dtype=dtype)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"mean": [0.5]}, "expected mean and std together, got only one of them; give both or neither"),
        ({"std": [0.5]}, "expected mean and std together"),
        ({"input_mean": [0.5]}, "expected input_mean and input_std together"),
        ({"mean": [0.5], "std": [0.0]}, "expected every std > 0, got [0.0]"),
        ({"input_mean": [0.5, 0.5], "input_std": [0.2, -0.2]}, "expected every std > 0, got [0.2, -0.2]"),
        (
            {"mean": [0.5] * 3, "std": [0.2] * 2},
            "expected mean and std with one value a channel each, got 3 and 2 values",
        ),
        ({"mean": "abc", "std": "abc"}, "expected mean and std with one value a channel each, got 'abc' and 'abc'"),
        ({"mean": [math.nan], "std": [0.2]}, "expected mean and std as finite numbers, got [nan] and [0.2]"),
        ({"mean": [0.5], "std": [math.inf]}, "expected mean and std as finite numbers, got [0.5] and [inf]"),
        ({"mean": [0.5], "std": ["a"]}, "expected mean and std as finite numbers, got [0.5] and ['a']"),
        (
            {"mean": [0.5] * 3, "std": [0.2] * 3, "input_mean": [0.5], "input_std": [0.2]},
            "one value a channel each, got [3, 3, 1, 1] values",
        ),
        ({"image_size": 0}, "expected image_size to be an integer >= 1, got 0"),
        ({"image_size": (8.5, 8)}, "expected image_size to be an integer >= 1, got 8.5"),
        ({"image_size": True}, "expected image_size to be an integer >= 1, got True"),
        ({"fold": None}, "expected fold to be True or False, got None"),
        ({"channels_last": "false"}, "expected channels_last to be True or False, got 'false'"),
        ({"compile": "no"}, "expected compile to be True or False, got 'no'"),
        ({"image_size": (32, 32, 3)}, "expected image_size as a side or (height, width), got (32, 32, 3)"),
        ({"image_size": (32, -1)}, "expected image_size to be an integer >= 1, got -1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_arguments(arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        FrozenTeacher(nn.Linear(2, 2), **arguments)


# Where it must not turn up


def test_frozen_and_in_eval_mode_from_wrapping_on() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    teacher = FrozenTeacher(module)
    assert teacher.module is module
    assert not any(part.training for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_back_in_eval_mode_when_called() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 12 * 12, 4))
    teacher = FrozenTeacher(module)
    module.train()
    assert teacher(pixels()).equal(teacher(pixels()))
    assert not any(part.training for part in module.modules())


def test_no_part_of_a_module_that_holds_it() -> None:
    student = nn.Linear(2, 2)
    student.teacher = FrozenTeacher(SmoothTeacher())  # pyright: ignore[reportArgumentType]
    assert [name for name, _ in student.named_modules()] == [""]
    assert set(student.state_dict()) == {"weight", "bias"}
    assert sum(parameter.numel() for parameter in student.parameters()) == 6
    student.train().double()
    assert not student.teacher.module.training


def test_wrapped_once() -> None:
    teacher = FrozenTeacher(SmoothTeacher())
    assert as_teacher(teacher) is teacher
    assert as_teacher(teacher.module).module is teacher.module


def test_moves() -> None:
    teacher = FrozenTeacher(SmoothTeacher())
    assert teacher.to(torch.device("meta")) is teacher
    assert {weight.device.type for weight in teacher.module.state_dict().values()} == {"meta"}


# Programs


@pytest.mark.filterwarnings("ignore")  # torch's own on TorchScript and export
@pytest.mark.parametrize("kind", ["script", "frozen", "export"])
def test_programs_teach(kind: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    program: Any = torch.jit.script(module)
    if kind == "frozen":
        program = torch.jit.freeze(program)
    if kind == "export":
        sizes = ({0: torch.export.Dim("b", min=1, max=64)},)
        program = torch.export.export(module, (torch.rand(8, 3, 8, 8),), dynamic_shapes=sizes)
        program = program.module()
    teacher = FrozenTeacher(program)
    for count in (3, 1):
        pixels = torch.rand(count, 3, 8, 8, requires_grad=True)
        torch.testing.assert_close(teacher(pixels), module(pixels))
        (gradient,) = torch.autograd.grad(teacher(pixels).sum(), pixels)
        assert gradient.abs().sum() > 0
    assert not any(weight.requires_grad for weight in teacher.module.parameters())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")
def test_a_program_of_torch_export_is_opened_first() -> None:
    program = torch.export.export(nn.Linear(2, 2), (torch.rand(2, 2),))
    for take in (FrozenTeacher, SuperMixCallback):
        with pytest.raises(TypeError, match=r"of a program of torch.export give program.module\(\)"):
            take(program)  # pyright: ignore[reportArgumentType]


@pytest.mark.filterwarnings("ignore")
def test_a_program_for_one_number_of_images_says_how_it_is_exported() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    teacher = FrozenTeacher(torch.export.export(module, (torch.rand(8, 3, 2, 2),)).module())
    with pytest.raises(AssertionError) as caught:
        teacher(torch.rand(3, 3, 2, 2))
    assert "export the teacher with dynamic_shapes" in caught.value.__notes__[0]
