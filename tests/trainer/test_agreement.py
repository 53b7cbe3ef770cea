"""On how many natural images the teacher agrees with the label."""

import pytest
import torch
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixUp
from supermix_pl.trainer.agreement import natural_hits
from tests.problems import NUM_CLASSES, SmoothTeacher, natural_images
from tests.rewriters import MIXER

LABELS = torch.tensor([0, 5, 2, 2])


def images(count: int = 4) -> Tensor:
    return natural_images(count, dtype=torch.float32)


class Constant(nn.Module):
    """Says class 2 to everything."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.eye(NUM_CLASSES)[2] + 0 * images.mean(dim=(1, 2, 3))[:, None]


def test_hits_on_natural_images_are_counted() -> None:
    constant = FrozenTeacher(Constant())
    mix = MIXER(constant, images(), seed=0)
    assert mix.natural_logits is not None
    blind = MixUp(num_classes=NUM_CLASSES)(None, images(), LABELS, seed=0)
    assert blind.natural_logits is None
    for each in (mix, blind):
        for labels in (LABELS, torch.eye(NUM_CLASSES)[LABELS]):
            hits = natural_hits(each, constant, images(), labels)
            assert hits is not None
            assert int(hits) == 2
        for other in (LABELS.float(), torch.rand(4, 3)):
            assert natural_hits(each, constant, images(), other) is None


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.uint32])
def test_labels_of_any_integer_dtype_are_compared(dtype: torch.dtype) -> None:
    constant = FrozenTeacher(Constant())
    mix = MIXER(constant, images(), seed=0)
    hits = natural_hits(mix, constant, images(), LABELS.to(dtype))
    assert hits is not None
    assert int(hits) == 2


def test_of_probabilities_the_likeliest_class_counts() -> None:
    teacher = FrozenTeacher(SmoothTeacher().float())
    mix = MIXER(teacher, images(), seed=0)
    soft = torch.rand(4, NUM_CLASSES, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    hits = natural_hits(mix, teacher, images(), soft)
    assert hits is not None
    assert int(hits) == int((teacher(images()).argmax(dim=1) == soft.argmax(dim=1)).sum())


def test_hits_are_counted_of_the_first_images_in_chunks() -> None:
    class Seeing(SmoothTeacher):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().forward(images)

    seen: list[int] = []
    mix = MixUp(num_classes=NUM_CLASSES)(None, images(), LABELS, seed=0)
    seeing = FrozenTeacher(Seeing().float(), fold=False)
    seen.clear()
    for batch in (LABELS, torch.eye(NUM_CLASSES)[LABELS]):
        natural_hits(mix, seeing, images()[:3], batch[:3], chunk_size=2)
    assert seen == [2, 1, 2, 1]
