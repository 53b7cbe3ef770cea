"""Several teachers as one network: the mean of their probabilities."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ProbabilityMean(nn.Module):
    """Gives the logarithm of the mean of several teachers' probabilities; see `FrozenTeacher.mean_of`."""

    def __init__(self, teachers: Sequence[Any]) -> None:
        super().__init__()
        if not teachers:
            raise ValueError("expected at least one teacher, got none")
        for teacher in teachers:
            if teacher.compile or teacher.features is not None:
                raise ValueError(
                    f"expected teachers without compile and features to average, got {teacher!r}; leave these out"
                )
        _check_same([teacher.num_classes for teacher in teachers if teacher.num_classes is not None])
        self.teachers = list(teachers)
        self.parts = nn.ModuleList([teacher.module for teacher in teachers])

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Return log((1/t) sum_i softmax(logits_i)), in float32 at least."""
        logits = [teacher(images) for teacher in self.teachers]
        _check_same([each.shape[1] for each in logits])
        return torch.stack([each.log_softmax(dim=1) for each in logits]).logsumexp(dim=0) - math.log(len(logits))


def _check_same(counts: list[int]) -> None:
    if len(set(counts)) > 1:
        raise ValueError(
            f"expected teachers of the same classes, got {counts} classes; FrozenTeacher(class_indices=...) picks yours"
        )
