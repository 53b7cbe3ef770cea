"""Devices without float64, such as Apple's: in float32 the mixers ask for no wider number there."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from supermix_pl import CutMix, FMix, MixUp, OneOf, PuzzleMix, ResizeMix, SaliencyMix, SuperMix
from supermix_pl.engine import BatchEngine, Engine, StreamEngine
from supermix_pl.mixing import Mixer
from supermix_pl.transforms import RandomCropFlip, RandomResizedCropFlip
from tests.engine.streams import EARLY, FAST, batch_of, teacher_of

MIXERS = [
    FAST,
    EARLY,
    SuperMix(mask_size=4, max_steps=2, init="contrast", pairing="random"),
    MixUp(),
    CutMix(k=3),
    FMix(),
    ResizeMix(),
    SaliencyMix(),
    PuzzleMix(),
    OneOf([MixUp(), CutMix()]),
]


class NoFloat64(TorchDispatchMode):
    """Refuses float64, but where the host rounds what it drew."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket is not torch.ops.aten.lift_fresh:  # an array becomes a tensor
            held = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
            assert all(each.dtype != torch.float64 for each in held), f"{func} gives float64"
        return result


@pytest.mark.parametrize(("engine", "view"), [(StreamEngine, RandomCropFlip()), (BatchEngine, RandomResizedCropFlip())])
@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: type(mixer).__name__)
def test_float32_stays_float32(mixer: Mixer, engine: type[Engine], view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    as_tensor = torch.as_tensor

    def rounded(*args: Any, **options: Any) -> Tensor:
        held = as_tensor(*args, **options)
        assert held.dtype != torch.float64, "float64 on its way to a device"
        return held

    teacher, made = teacher_of(), engine()
    for step in range(2):  # the first steps make constants, on the host
        made.mix(mixer, teacher, *batch_of(step), seed=(0, step), view=view)
    monkeypatch.setattr(torch, "as_tensor", rounded)
    for step in range(2, 4):
        with NoFloat64():
            mix = made.mix(mixer, teacher, *batch_of(step), seed=(0, step), view=view)
        assert mix.mix_weights.dtype == mix.masks.dtype == torch.float32
