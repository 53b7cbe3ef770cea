"""Records whose tensors all have one row a set."""

from typing import TypeVar

from jaxtyping import Int
from torch import Tensor

R = TypeVar("R", bound="Rows")


class Rows:
    """Base of data classes of tensors whose first dimension are the sets."""

    def take(self: R, rows: Int[Tensor, " r"] | slice) -> R:
        """Keep some of the sets."""
        return type(self)(**{name: value[rows] for name, value in vars(self).items()})

    def put(self: R, rows: Int[Tensor, " r"], others: R) -> None:
        """Write other sets over some of these."""
        for name, value in vars(self).items():
            value[rows] = getattr(others, name)
