"""The teacher is compared with the labels of natural images."""

import re
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from supermix_pl import FrozenTeacher, MixedBatch, MixUp
from supermix_pl.trainer.supervision import Supervision
from tests.problems import NUM_CLASSES, SmoothTeacher, natural_images
from tests.rewriters import MIXER

LABELS = torch.tensor([0, 5, 2, 2])


def images(count: int = 4) -> Tensor:
    return natural_images(count, dtype=torch.float32)


class Constant(nn.Module):
    """Says class 2 to everything."""

    def forward(self, images: Tensor) -> Tensor:
        return 9 * torch.eye(NUM_CLASSES)[2] + 0 * images.mean(dim=(1, 2, 3))[:, None]


def seen_and_hit(mix: MixedBatch, teacher: FrozenTeacher, labels: Tensor) -> tuple[int, int]:
    supervision = Supervision(teacher)
    supervision.judge(mix, images(), labels, chunk_size=2)
    state = supervision.state_dict()
    return state["labels_seen"], state["labels_hit"]


def test_hits_on_natural_images_are_counted() -> None:
    constant = FrozenTeacher(Constant())
    mix = MIXER(constant, images(), seed=0)
    assert mix.natural_logits is not None
    blind = MixUp(num_classes=NUM_CLASSES)(None, images(), LABELS, seed=0)
    assert blind.natural_logits is None
    for each in (mix, blind):
        for labels in (LABELS, torch.eye(NUM_CLASSES)[LABELS]):
            assert seen_and_hit(each, constant, labels) == (4, 2)
        assert seen_and_hit(each, constant, torch.tensor([-1, 5, 2, -1])) == (2, 1)
        for other in (LABELS.float(), torch.rand(4, 3), torch.full((4,), -1)):
            assert seen_and_hit(each, constant, other) == (0, 0)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.uint32])
def test_labels_of_any_integer_dtype_are_compared(dtype: torch.dtype) -> None:
    constant = FrozenTeacher(Constant())
    mix = MIXER(constant, images(), seed=0)
    assert seen_and_hit(mix, constant, LABELS.to(dtype)) == (4, 2)


def test_of_probabilities_the_likeliest_class_counts() -> None:
    teacher = FrozenTeacher(SmoothTeacher().float())
    mix = MIXER(teacher, images(), seed=0)
    soft = torch.rand(4, NUM_CLASSES, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    hits = (teacher(images()).argmax(dim=1) == soft.argmax(dim=1)).sum()
    assert seen_and_hit(mix, teacher, soft) == (4, int(hits))


def test_images_with_a_label_are_shown_in_chunks() -> None:
    class Seeing(SmoothTeacher):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().forward(images)

    seen: list[int] = []
    mix = MixUp(num_classes=NUM_CLASSES)(None, images(), LABELS, seed=0)
    seeing = FrozenTeacher(Seeing().float(), fold=False)
    seen.clear()
    seen_and_hit(mix, seeing, torch.tensor([0, -1, 2, 2]))
    seen_and_hit(mix, seeing, torch.eye(NUM_CLASSES)[LABELS])
    again = [2, 2]  # the first image, as often as there are images: does it get the same logits?
    assert seen == [2, 1, *again, 2, 2, *again]


class Dropping(SmoothTeacher):
    def forward(self, images: Tensor) -> Tensor:
        return functional.dropout(super().forward(images), 0.2)


class OfTheBatch(SmoothTeacher):
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return (logits - logits.mean(dim=0)) / (logits.std(dim=0) + 1e-3)


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("kind", [Dropping, OfTheBatch, SmoothTeacher])
def test_a_teacher_whose_logits_depend_on_chance_or_the_batch_is_told_once(
    kind: type[SmoothTeacher], blind: bool, recwarn: pytest.WarningsRecorder
) -> None:
    torch.manual_seed(0)
    teacher = FrozenTeacher(kind().float(), fold=False)
    mixer = MixUp(num_classes=NUM_CLASSES) if blind else MIXER
    mix = mixer(None if blind else teacher, images(), LABELS if blind else None, seed=0)
    supervision = Supervision(teacher)
    for _ in range(2):
        supervision.judge(mix, images(), torch.tensor([-1, 5, 2, 2]))
    told = [str(each.message) for each in recwarn if "in a second pass beside others" in str(each.message)]
    assert len(told) == (kind is not SmoothTeacher)


HALVES = {"input_mean": (0.5,), "input_std": (0.5,)}


@pytest.mark.parametrize(
    ("statistics", "scale", "shift", "said"),
    [
        ({"mean": (0.5,), "std": (0.3,)}, 1.0, 0.0, ""),
        ({"mean": (0.5,), "std": (0.3,), **HALVES}, 2.0, -1.0, ""),
        ({}, 5.0, -2.0, ""),  # nothing is known of them
        ({"mean": (0.5,), "std": (0.3,)}, 2.0, -1.0, "input_std of FrozenTeacher are not given, .* in .-1, 1., 4.% of"),
        (HALVES, 255.0, 0.0, "input_std of FrozenTeacher are undone, .* outside"),
    ],
)
@pytest.mark.parametrize("labels", [LABELS, None])
def test_batches_of_other_statistics_are_told_once(
    statistics: dict[str, Any], scale: float, shift: float, said: str, labels: Tensor | None
) -> None:
    batch = torch.linspace(0, 1, 4 * 3 * 8 * 8).view(4, 3, 8, 8) * scale + shift
    teacher = FrozenTeacher(Constant(), **statistics)
    mix = MixUp(num_classes=NUM_CLASSES)(None, batch, LABELS, seed=0)
    for judged in (Supervision(teacher), Supervision([teacher, teacher])):
        if said and judged.teacher is not teacher and "mean" in statistics:
            continue  # several teachers are judged by the batches' statistics alone
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                judged.judge(mix, batch, labels)
        assert len(caught) == bool(said)
        assert all(re.search(said, str(warning.message)) for warning in caught)
