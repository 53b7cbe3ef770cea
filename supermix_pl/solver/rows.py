"""Records whose tensors all have one row a set, and what the host tells the device of rows."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

R = TypeVar("R", bound="Rows")


class Rows:
    """Base of data classes of tensors whose first dimension are the sets; some may be None."""

    def take(self: R, rows: Int[Tensor, " r"] | slice) -> R:
        """Keep some of the sets."""
        return type(self)(**{name: None if value is None else value[rows] for name, value in vars(self).items()})

    def put(self: R, rows: Int[Tensor, " r"] | slice, others: R) -> None:
        """Write other sets over some of these."""
        for name, value in vars(self).items():
            value[rows] = getattr(others, name)


def to_device(
    drawn: Shaped[np.ndarray, "..."] | Tensor, device: torch.device, dtype: torch.dtype | None = None
) -> Shaped[Tensor, "..."]:
    """Bring what the host drew to a device, if it is not there; the host does not wait for that.

    A dtype is taken on the host, as there are devices without float64 (Apple's, "mps").
    """
    held = torch.as_tensor(drawn, dtype=dtype)
    if device.type == "cuda" and not held.is_cuda:
        return held.pin_memory().to(device, non_blocking=True)
    return held.to(device)


def rows_at(places: Int[np.ndarray, " r"], device: torch.device) -> Int[Tensor, " r"] | slice:
    """Name rows on a device; as a slice, which takes no transfer and no copy, where each follows the one before."""
    if len(places) and (np.diff(places) == 1).all():
        return slice(int(places[0]), int(places[-1]) + 1)
    return to_device(places, device)


def concatenate(parts: Sequence[R]) -> R:
    """Put the rows of some sets and of the following ones together."""
    if len(parts) == 1:
        return parts[0]
    columns = {name: [vars(part)[name] for part in parts] for name in vars(parts[0])}
    return type(parts[0])(**{name: None if held[0] is None else torch.cat(held) for name, held in columns.items()})
