"""Mixers in whatever surroundings they are called: dtypes, memory formats, gradient modes, global generators."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supermix_pl import CutMix, FrozenTeacher, MixedBatch, MixUp, OneOf, SuperMix
from supermix_pl.mixing import Mixer
from tests.problems import SmoothTeacher, natural_images

MIXERS = [
    SuperMix(mask_size=4, max_steps=4),
    SuperMix(mask_size=4, max_steps=2, k=3, init="saliency", pairing="random", on_unsolved="mixup"),
    SuperMix(mask_size=4, max_steps=2, pairing="distinct", classes="labels", on_unsolved="source"),
    MixUp(k=3, pairing="distinct"),
    CutMix(k=2, pairing="random"),
    OneOf([MixUp(), CutMix()], pairing="random"),
    SuperMix.fast(mask_size=4, max_steps=2),
]
LABELS = torch.arange(6)

each_mixer = pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: f"{type(mixer).__name__}-{mixer.pairing}")


def assert_same(first: MixedBatch, second: MixedBatch) -> None:
    for name, value in vars(first).items():
        other = getattr(second, name)
        assert torch.equal(value, other) if isinstance(value, Tensor) else value == other, name


class Fussy(nn.Module):
    """Has what training or a careless pass would change: batch norm, dropout, a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = SmoothTeacher()
        self.norm = nn.BatchNorm2d(3, dtype=torch.float64)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(self.dropout(self.norm(images)))


@pytest.mark.parametrize(
    ("dtype", "inside"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
@each_mixer
def test_images_come_back_in_their_dtype_and_all_else_in_at_least_float32(
    mixer: Mixer, dtype: torch.dtype, inside: torch.dtype
) -> None:
    mix = mixer(SmoothTeacher().float(), natural_images(6, dtype=dtype), LABELS, seed=0)
    assert mix.images.dtype == dtype
    assert mix.teacher_logits is not None
    for value in (mix.masks, mix.mix_weights, mix.soft_targets, mix.teacher_logits):
        assert value.dtype == inside
    for value in (mix.source_indices, mix.source_classes, mix.outcomes, mix.num_steps):
        assert value.dtype == torch.int64


@pytest.mark.parametrize("weights", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@each_mixer
def test_teacher_and_batch_may_differ_in_dtype(mixer: Mixer, dtype: torch.dtype, weights: torch.dtype) -> None:
    mix = mixer(SmoothTeacher().to(weights), natural_images(6, dtype=dtype), LABELS, seed=0)
    assert mix.images.dtype == dtype
    assert mix.images.isfinite().all()


@pytest.mark.parametrize("channels_last", [False, True])
@each_mixer
def test_images_come_back_in_their_memory_format(mixer: Mixer, channels_last: bool) -> None:
    images = natural_images(6, dtype=torch.bfloat16)
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
    mix = mixer(SmoothTeacher().float(), images, LABELS, seed=0)
    assert mix.images.stride() == images.stride()
    assert mix.images.is_contiguous() != channels_last


@each_mixer
def test_any_stride_is_taken(mixer: Mixer) -> None:
    images = natural_images(12)
    strided = images.transpose(2, 3).flip(0)[::2].transpose(2, 3)
    assert_same(
        mixer(SmoothTeacher(), strided, LABELS, seed=0), mixer(SmoothTeacher(), strided.contiguous(), LABELS, seed=0)
    )


def modes() -> dict[str, Callable[[], AbstractContextManager[object]]]:
    return {
        "no_grad": torch.no_grad,
        "inference_mode": torch.inference_mode,
        "enable_grad": torch.enable_grad,
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    }


@pytest.mark.parametrize("mode", modes())
@each_mixer
def test_the_callers_mode_changes_nothing(mixer: Mixer, mode: str) -> None:
    teacher = SmoothTeacher().float()
    expected = mixer(teacher, natural_images(6, dtype=torch.float32), LABELS, seed=0)
    with modes()[mode]():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        images = natural_images(6, dtype=torch.float32)
        mix = mixer(teacher, images, LABELS, seed=0)
        after = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    assert before == after
    assert_same(mix, expected)
    assert not mix.images.requires_grad


@pytest.mark.parametrize("mixer", MIXERS[:2])
def test_a_teacher_first_used_in_inference_mode_still_supervises(mixer: Mixer) -> None:
    normalised: dict[str, Any] = {"mean": [0.1, 0.2, 0.3], "std": [0.9, 1.0, 1.1]}
    expected = mixer(FrozenTeacher(SmoothTeacher(), **normalised), natural_images(6), seed=0)
    teacher = FrozenTeacher(SmoothTeacher(), **normalised)
    with torch.inference_mode():
        teacher(natural_images(6))
    assert_same(mixer(teacher, natural_images(6), seed=0), expected)


@each_mixer
def test_nothing_of_the_mix_has_a_graph(mixer: Mixer) -> None:
    images = natural_images(6).requires_grad_()
    mix = mixer(SmoothTeacher(), images, LABELS, seed=0)
    assert not any(value.requires_grad for value in vars(mix).values() if isinstance(value, Tensor))
    assert images.grad is None


@each_mixer
def test_images_and_labels_are_left_alone(mixer: Mixer) -> None:
    images, labels = natural_images(6), LABELS.clone()
    before = images.clone()
    mix = mixer(SmoothTeacher(), images, labels, seed=0)
    mix.images.zero_()
    assert images.equal(before)
    assert labels.equal(LABELS)


@each_mixer
def test_the_teacher_is_untouched_bit_for_bit(mixer: Mixer) -> None:
    module = Fussy().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    teacher = FrozenTeacher(module)
    for _ in range(2):
        mixer(teacher, natural_images(6), LABELS, seed=0)
        module.train()  # as a user's mistake would
    mixer(teacher, natural_images(6), LABELS, seed=0)
    assert not any(part.training for part in module.modules())
    assert all(value.equal(before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in module.parameters())


# Chance


@pytest.fixture
def keep_generators() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])


def seed_globally(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def global_draws() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


@pytest.mark.usefixtures("keep_generators", "unchecked")  # beartype itself draws from `random`
@each_mixer
def test_global_generators_are_neither_read_nor_advanced(mixer: Mixer) -> None:
    mixes, draws = [], []
    for seed in (0, 1):
        seed_globally(seed)
        mixes.append(mixer(SmoothTeacher(), natural_images(6), LABELS, seed=5))
        draws.append(global_draws())
        seed_globally(seed)
        assert global_draws() == draws[-1]
    assert_same(*mixes)
    assert draws[0] != draws[1]


@each_mixer
def test_the_seed_decides(mixer: Mixer) -> None:
    seeds = [0, 1, 2**40, (0, 1), (1, 1), (1, 2), (0, 0, 0, 7), (0, 0, 1, 7)]
    once, again = (
        [mixer(SmoothTeacher(), natural_images(6), LABELS, seed=seed).mix_weights for seed in seeds] for _ in range(2)
    )
    for number, weights in enumerate(once):
        assert weights.equal(again[number])
        assert not any(weights.equal(other) for other in once[:number])


@pytest.mark.usefixtures("unchecked")
def test_numpy_integers_are_seeds() -> None:
    first, second = (MIXERS[0](SmoothTeacher(), natural_images(6), seed=seed) for seed in (7, [np.int64(7)]))
    assert_same(first, second)
