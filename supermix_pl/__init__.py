"""SuperMix in the training loop of PyTorch Lightning.

A frozen teacher supervises masks that mix k images, so that it still recognises each image in the mix (Dabouei et al.,
"SuperMix: Supervising the Mixing Data Augmentation", CVPR 2021). The mixes extend or replace every batch. Start with
`SuperMixCallback(teacher)`.
"""

from supermix_pl.callback import SuperMixCallback
from supermix_pl.engine import BatchEngine, StreamEngine
from supermix_pl.mixin import SuperMixMixin
from supermix_pl.mixing import CutMix, MixedBatch, MixUp, OneOf, SuperMix
from supermix_pl.self_teacher import MovingAverage
from supermix_pl.teacher import FrozenTeacher
from supermix_pl.version import __version__

__all__ = [
    "BatchEngine",
    "CutMix",
    "FrozenTeacher",
    "MixUp",
    "MixedBatch",
    "MovingAverage",
    "OneOf",
    "StreamEngine",
    "SuperMix",
    "SuperMixCallback",
    "SuperMixMixin",
    "__version__",
]
