"""SuperMix in the training loop of PyTorch Lightning.

A frozen teacher supervises masks that mix k images, so that it still recognises each image in the mix (Dabouei et al.,
"SuperMix: Supervising the Mixing Data Augmentation", CVPR 2021). The mixes extend or replace every batch. Start with
`SuperMixCallback(teacher)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from supermix_pl.version import __version__

if TYPE_CHECKING:
    from supermix_pl.callback import SuperMixCallback
    from supermix_pl.engine import BatchEngine, StreamEngine
    from supermix_pl.mixin import SuperMixMixin
    from supermix_pl.mixing import CutMix, FMix, MixedBatch, MixUp, OneOf, PuzzleMix, ResizeMix, SaliencyMix, SuperMix
    from supermix_pl.teacher import FrozenTeacher, MovingAverage

# fmt: off
__all__ = [
    "BatchEngine", "CutMix", "FMix", "FrozenTeacher", "MixUp", "MixedBatch", "MovingAverage", "OneOf", "PuzzleMix",
    "ResizeMix", "SaliencyMix", "StreamEngine", "SuperMix", "SuperMixCallback", "SuperMixMixin", "__version__",
]
# fmt: on
_ROOMS = {
    "callback": ["SuperMixCallback"],
    "engine": ["BatchEngine", "StreamEngine"],
    "mixin": ["SuperMixMixin"],
    "mixing": ["CutMix", "FMix", "MixUp", "MixedBatch", "OneOf", "PuzzleMix", "ResizeMix", "SaliencyMix", "SuperMix"],
    "teacher": ["FrozenTeacher", "MovingAverage"],
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for, so that commands can answer --help before torch is there."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
