"""Short names of what results hang on: a teacher, a set of images."""

import hashlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from supermix_pl import FrozenTeacher
from supermix_pl.teacher.several import ProbabilityMean

_LENGTH = 16
_IMAGES_SEEN = 16


def digest_teacher(teacher: FrozenTeacher) -> str:
    """Identify a teacher by its weights and by what it makes of its inputs: normalisation, size, precision."""
    sha = hashlib.sha256(repr((teacher.image_size, teacher.weight_dtype, teacher.autocast_dtype)).encode())
    black_and_white = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    normalised = teacher.prepare(black_and_white).float().mean(dim=(2, 3))
    sha.update(np.round(normalised.numpy(), 4).tobytes())
    for each in teacher.module.teachers if isinstance(teacher.module, ProbabilityMean) else ():
        sha.update(digest_teacher(each).encode())
    sha.update(_digest_weights(teacher.module))
    return sha.hexdigest()[:_LENGTH]


def digest_images(source: Any, samples: Int64[np.ndarray, " m"]) -> str:
    """Identify images of a `data.source.BatchSource` by who they are, all their labels, and how the first look."""
    sha = hashlib.sha256(samples.tobytes() + source.labels[samples].tobytes())
    for images, *_ in source.batches([samples[:_IMAGES_SEEN]], stream=None):
        sha.update(repr(tuple(images.shape)).encode() + images.numpy().tobytes())
    return sha.hexdigest()[:_LENGTH]


def _digest_weights(module: nn.Module) -> bytes:
    sha = hashlib.sha256()
    for name, value in module.state_dict().items():
        sha.update(name.encode())
        sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.digest()
