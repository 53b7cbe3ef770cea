"""Records whose tensors all have one row a set."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

R = TypeVar("R", bound="Rows")


class Rows:
    """Base of data classes of tensors whose first dimension are the sets; some may be None."""

    def take(self: R, rows: Int[Tensor, " r"] | slice) -> R:
        """Keep some of the sets."""
        return type(self)(**{name: None if value is None else value[rows] for name, value in vars(self).items()})

    def put(self: R, rows: Int[Tensor, " r"], others: R) -> None:
        """Write other sets over some of these."""
        for name, value in vars(self).items():
            value[rows] = getattr(others, name)


def concatenate(parts: Sequence[R]) -> R:
    """Put the rows of some sets and of the following ones together."""
    if len(parts) == 1:
        return parts[0]
    columns = {name: [vars(part)[name] for part in parts] for name in vars(parts[0])}
    return type(parts[0])(**{name: None if held[0] is None else torch.cat(held) for name, held in columns.items()})
