"""Label formats of mixes and of the natural images beside them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supermix_pl import MixedBatch, MixUp, SuperMix
from supermix_pl.mixing.targets import (
    TargetFormat,
    blend,
    concatenate,
    mixed_targets,
    natural_targets,
)
from supermix_pl.solver.criterion import soft_targets
from tests.problems import NUM_CLASSES, SmoothTeacher, natural_images, repeatable

LABELS = torch.tensor([0, 5, 2, 2])
PROBABILITIES = torch.tensor([[0.5, 0.25, 0.25, 0, 0, 0], [0, 0, 0, 0, 0, 1.0]]).repeat(2, 1)


@pytest.fixture(scope="module")
def mix() -> MixedBatch:
    return SuperMix(k=3, mask_size=4, max_steps=3)(SmoothTeacher().float(), natural_images(4).float(), seed=0)


@given(
    classes=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    alpha=st.sampled_from([0.1, 1, 9]),
)
@repeatable
def test_soft_targets_put_every_weight_on_its_class_and_sum_to_1(classes: list[int], seed: int, alpha: float) -> None:
    concentration = torch.full((len(classes),), alpha, dtype=torch.float64)
    torch.manual_seed(seed)
    weights = torch.distributions.Dirichlet(concentration).sample()
    targets = soft_targets(torch.tensor([classes]), weights[None], 5)[0]
    for label in range(5):
        expected = sum(weight for one, weight in zip(classes, weights.tolist(), strict=True) if one == label)
        assert targets[label].item() == pytest.approx(expected)
    assert targets.sum().item() == pytest.approx(1.0)


def test_formats_of_a_mix(mix: MixedBatch) -> None:
    assert mix.teacher_logits is not None
    hard, soft, probabilities = (mixed_targets(mix, name) for name in ("teacher", "soft", "teacher_soft"))
    assert isinstance(hard, Tensor)
    assert hard.equal(mix.teacher_logits.argmax(dim=1))
    assert soft is mix.soft_targets
    torch.testing.assert_close(probabilities, mix.teacher_logits.exp() / mix.teacher_logits.exp().sum(1, keepdim=True))
    classes, weights = mixed_targets(mix, "pairs")
    assert classes is mix.source_classes
    assert weights is mix.mix_weights


@pytest.mark.parametrize("target_format", ["teacher", "teacher_soft"])
def test_a_teachers_label_needs_a_teacher(target_format: TargetFormat) -> None:
    mix = MixUp(num_classes=6)(None, natural_images(4), LABELS, seed=0)
    with pytest.raises(ValueError, match=rf'expected a teacher .* targets="{target_format}", got None; give one, or'):
        mixed_targets(mix, target_format)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_natural_class_indices_in_every_format(dtype: torch.dtype) -> None:
    labels = LABELS.to(dtype)
    hard = natural_targets(labels, "teacher", NUM_CLASSES, 3)
    assert isinstance(hard, Tensor)
    assert (hard is labels) == (dtype != torch.uint8)
    assert hard.tolist() == labels.tolist()
    for soft in ("soft", "teacher_soft"):
        rows = natural_targets(labels, soft, NUM_CLASSES, 3)
        assert isinstance(rows, Tensor)
        assert rows.dtype == torch.float32
        assert rows.equal(torch.eye(NUM_CLASSES)[LABELS])
    classes, weights = natural_targets(labels, "pairs", NUM_CLASSES, 3)
    assert classes.tolist() == [[0, 0, 0], [5, 5, 5], [2, 2, 2], [2, 2, 2]]
    assert weights.tolist() == [[1.0, 0.0, 0.0]] * 4


@pytest.mark.parametrize("target_format", ["soft", "teacher_soft"])
def test_natural_probabilities_pass_as_they_are(target_format: TargetFormat) -> None:
    assert natural_targets(PROBABILITIES, target_format, NUM_CLASSES, 2) is PROBABILITIES


@pytest.mark.parametrize(
    ("labels", "target_format"),
    [
        (PROBABILITIES, "teacher"),
        (PROBABILITIES, "pairs"),
        (PROBABILITIES[:, :4], "soft"),
        (LABELS[:, None], "teacher"),
        (LABELS[:, None], "soft"),
        (LABELS.float(), "soft"),
        (LABELS.float(), "pairs"),
    ],
)
def test_natural_labels_that_fit_no_format(labels: Tensor, target_format: TargetFormat) -> None:
    with pytest.raises(
        ValueError, match=r"expected .*labels as \(b,\).*, got torch\.\w+ of shape \(4.*\).*; c"
    ) as error:
        natural_targets(labels, target_format, NUM_CLASSES, 2)
    assert str(tuple(labels.shape)) in str(error.value)


@pytest.mark.parametrize("target_format", ["teacher", "soft", "teacher_soft", "pairs"])
def test_natural_labels_go_before_those_of_the_mixes(mix: MixedBatch, target_format: TargetFormat) -> None:
    natural = natural_targets(LABELS, target_format, NUM_CLASSES, 3)
    mixed = mixed_targets(mix, target_format)
    both = concatenate(natural, mixed)
    pairs = zip(*([x] if isinstance(x, Tensor) else x for x in (natural, mixed, both)), strict=True)
    for first, second, joined in pairs:
        assert joined[:4].equal(first)
        assert joined[4:].equal(second)


@pytest.mark.parametrize("natural", [LABELS.int(), PROBABILITIES.bfloat16(), PROBABILITIES.double()])
def test_mixes_take_the_dtype_of_the_natural_labels(mix: MixedBatch, natural: Tensor) -> None:
    target_format = "soft" if natural.is_floating_point() else "teacher"
    joined = concatenate(natural, mixed_targets(mix, target_format))
    assert isinstance(joined, Tensor)
    assert joined.dtype == natural.dtype


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16])
def test_small_labels_become_wide_enough_for_all_classes(mix: MixedBatch, dtype: torch.dtype) -> None:
    joined = concatenate(LABELS.to(dtype), torch.full((4,), 40_000))
    assert isinstance(joined, Tensor)
    assert joined.tolist() == [*LABELS.tolist(), *4 * [40_000]]


# The teacher's probabilities


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_temperature_softens_the_teachers_probabilities_and_nothing_else(mix: MixedBatch, temperature: float) -> None:
    assert mix.teacher_logits is not None
    soft = mixed_targets(mix, "teacher_soft", temperature)
    assert isinstance(soft, Tensor)
    powers = mix.teacher_logits.double().exp() ** (1 / temperature)
    torch.testing.assert_close(soft.double(), powers / powers.sum(dim=1, keepdim=True), rtol=1e-4, atol=1e-6)
    assert mixed_targets(mix, "soft", temperature) is mix.soft_targets
    hard = mixed_targets(mix, "teacher", temperature)
    assert isinstance(hard, Tensor)
    assert hard.equal(mix.teacher_logits.argmax(dim=1))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_blend_is_an_average_of_given_labels_and_teacher(share: float, temperature: float) -> None:
    logits = 3 * torch.randn(4, NUM_CLASSES, generator=torch.Generator().manual_seed(0))
    mixed = blend(PROBABILITIES, logits, share, temperature)
    expected = (1 - share) * PROBABILITIES + share * (logits / temperature).softmax(dim=1)
    torch.testing.assert_close(mixed, expected)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(4))
    if share == 0:
        assert mixed.equal(PROBABILITIES)


def test_a_blend_keeps_the_given_labels_where_the_teacher_sees_nothing() -> None:
    logits = torch.zeros(4, NUM_CLASSES)
    logits[1, 3], logits[2] = torch.nan, torch.inf
    mixed = blend(PROBABILITIES, logits, 1.0, 1.0)
    assert mixed[1:3].equal(PROBABILITIES[1:3])
    torch.testing.assert_close(mixed[[0, 3]], torch.full((2, NUM_CLASSES), 1 / NUM_CLASSES))


def test_a_blend_has_the_dtype_of_the_given_labels() -> None:
    assert blend(PROBABILITIES.bfloat16(), torch.zeros(4, NUM_CLASSES), 0.5, 1.0).dtype == torch.bfloat16
