"""Times of a stream's parts, on a teacher whose passes take as long as they are told to."""

import time

import pytest
import torch
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.engine.timing import sample
from tests.problems import SmoothTeacher, natural_images

SECONDS = 0.01


class Slow(nn.Module):
    """Takes SECONDS for every image that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = SmoothTeacher()

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(SECONDS * len(images))
        return self.inner(images)


@pytest.mark.parametrize(("pairing", "looked"), [("shift", 5), ("distinct", 16)])
def test_every_part_is_timed_by_itself(pairing: str, looked: int) -> None:
    teacher = FrozenTeacher(Slow(), fold=False)
    mixer = SuperMix(k=2, mask_size=4, pairing=pairing)  # pyright: ignore[reportArgumentType]
    found = sample(mixer, teacher, natural_images(16), None, draw=lambda: time.sleep(0.07))
    assert (found.few, found.many) == (4, 16)
    for taken, images in ((found.small, 4), (found.large, 16), (found.entry, looked)):
        assert SECONDS * images <= taken < SECONDS * images + 0.2
    assert 0.07 <= found.draw < 0.2


def test_a_small_batch_has_rounds_of_one_size() -> None:
    found = sample(SuperMix(k=3, mask_size=4), FrozenTeacher(SmoothTeacher()), natural_images(3), None, draw=list)
    assert (found.few, found.many) == (3, 3)
    assert min(found.small, found.large, found.entry) > 0
    assert torch.is_grad_enabled()
