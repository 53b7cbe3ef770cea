"""The teacher is compared with the labels of natural images."""

import pytest
import torch
from torch import Tensor, nn

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
        return torch.eye(NUM_CLASSES)[2] + 0 * images.mean(dim=(1, 2, 3))[:, None]


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
    assert seen == [2, 1, 2, 2]
