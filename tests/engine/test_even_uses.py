"""No set of a stream is replayed over and over, and who asks for uses that cannot be had is told."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supermix_pl.engine import StreamEngine
from supermix_pl.engine.stream.solving import replay_shares
from tests.engine.streams import EARLY, EXACT, SIZE, names_of, run, teacher_of
from tests.problems import FlatTeacher

pytestmark = pytest.mark.usefixtures("unchecked")  # many steps
SLOW = pytest.mark.slow


def test_shares_are_what_is_left_of_twice_the_mean() -> None:
    assert replay_shares(np.array([0, 4, 8])) == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-3)
    assert replay_shares(np.array([0, 0])) == pytest.approx([0.5, 0.5])
    shares = replay_shares(np.array([1000, 0, 0]))
    assert shares[0] > 0
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("mixer", [EXACT, pytest.param(EARLY, marks=SLOW)], ids=["fixed", "early"])
def test_the_first_sets_are_not_shown_over_and_over(mixer: object) -> None:
    shown: Counter[tuple[float, ...]] = Counter()  # in the order of the first view
    reuse, steps = 4, 300
    run(StreamEngine(reuse=reuse), steps, mixer, watch=lambda step, mix: shown.update(names_of(mix)))
    uses = np.array(list(shown.values()))
    assert uses.max() <= 4 * reuse
    parts = [part.mean() for part in np.array_split(uses, 10)]
    assert max(parts) < 2.2 * reuse
    assert parts[5] > 0.6 * reuse
    assert len(uses) > 0.8 * steps * SIZE / reuse


class Learning(nn.Module):
    """Sees one class everywhere, as an average of an untrained module does, until it has learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.knows = FlatTeacher(), False

    def forward(self, images: Tensor) -> Tensor:
        logits = self.body(images)
        return logits if self.knows else 0 * logits + 9 * torch.eye(logits.shape[1])[0]


@SLOW
def test_uses_follow_a_teacher_that_learns() -> None:
    teacher = Learning()

    def watch(step: int, mix: object) -> None:
        teacher.knows = step > 100

    ran = run(StreamEngine(reuse=8), 400, EARLY, teacher_of(teacher), watch=watch)
    assert ran.metrics[-1]["uses"] == pytest.approx(8, rel=0.1)


def test_uses_far_from_the_plan_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    engine = StreamEngine(reuse=4, slots=48)
    run(engine, 120, EXACT)
    solving = engine._state.solving
    assert solving is not None
    solving.ended = 3 * solving.ended
    with pytest.warns(UserWarning, match=r"sets are shown 1\.\d times on average and take 4 visits, where reuse=4.0"):
        run(engine, range(120, 122), EXACT)
    run(engine, range(122, 124), EXACT)  # warnings are errors
