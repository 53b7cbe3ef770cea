"""Images for which the teacher gives NaN: sources by their label, or none."""

from typing import Any

import pytest
import torch
from torch import Tensor

from supermix_pl import MixUp, SuperMix
from supermix_pl.engine import StreamEngine
from supermix_pl.mixing import Mixer
from tests.engine.streams import SIZE, batch_of, teacher_of
from tests.problems import NUM_CLASSES, BlindToMarked, FlatTeacher, mark

MARKED = [3, 4, 9]
SOLVING = SuperMix(mask_size=4, max_steps=3, early_stop=False, pairing="random")


def stored(engine: StreamEngine) -> tuple[Tensor, Tensor]:
    """Which stored images are marked, and the classes of all."""
    assert engine._state.images is not None
    places = torch.arange(len(engine._state.images.ring))
    return engine._state.images.at(places[:, None])[:, 0, 0, 0, 0] > 5, engine._state.images.classes(places)


@pytest.mark.parametrize("mixer", [SOLVING, MixUp()], ids=["solving", "blind"])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.usefixtures("unchecked")
def test_in_a_stream(mixer: Mixer, labelled: bool) -> None:
    engine: Any = StreamEngine(reuse=1, default_transform=None)
    teacher, label = teacher_of(BlindToMarked(FlatTeacher())), NUM_CLASSES - 1
    mixes = []
    for step in range(6):
        images = mark(batch_of(step)[0], *MARKED)
        labels = torch.full((SIZE,), label) if labelled else None
        mix = engine.mix(mixer, teacher, images, labels, seed=(0, step))
        mixes.append(mix)
        assert mix.left_out == (0 if labelled else len(MARKED))
    marked, classes = stored(engine)
    assert len(marked) == 6 * (SIZE if labelled else SIZE - len(MARKED))
    assert int(marked.sum()) == (6 * len(MARKED) if labelled else 0)
    assert classes[marked].eq(label).all()
    if not labelled:
        assert not any(mix.non_finite.any() for mix in mixes)
