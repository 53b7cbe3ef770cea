"""Rewriters of batches (images, labels), and their labels as tensors, whatever the format."""

from typing import Any

from torch import Tensor

from supermix_pl import SuperMix
from supermix_pl.engine import BatchEngine
from supermix_pl.trainer.rewriting import BatchRewriter

MIXER = SuperMix(k=2, mask_size=4, max_steps=3)


def rewriter(**changes: Any) -> BatchRewriter:
    arguments = {
        "mixer": MIXER,
        "engine": BatchEngine(),
        "mode": "extend",
        "targets": "teacher",
        "input_key": 0,
        "target_key": 1,
        "mixed_transform": None,
    }
    return BatchRewriter(**arguments | changes)


def tensors_of(targets: Any) -> list[Tensor]:
    return [targets] if isinstance(targets, Tensor) else list(targets)
