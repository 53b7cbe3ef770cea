"""Rows in the order of their arrival, the oldest overwritten when there is no room for more."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from supermix_pl.solver.rows import rows_at

_FIRST_ROWS = 256


class Ring:
    """Columns of equal length, on the device as tensors or on the host as arrays; it grows as it fills.

    The n-th row that ever arrived, counted from 0, has the place n % capacity until it is overwritten.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.added = 0
        self.columns: dict[str, Any] = {}

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    @property
    def num_bytes(self) -> int:
        """What is allocated."""
        return sum(column.nbytes for column in self.columns.values())

    def add(self, rows: dict[str, Any]) -> None:
        """Put rows in, the same columns each time."""
        count = min(len(rows[next(iter(rows))]), self.capacity)
        self._reserve(rows, min(self.added + count, self.capacity))
        numbers = self.added + np.arange(count)
        places = numbers % self.capacity
        self.added += count
        devices = [value.device for value in rows.values() if isinstance(value, Tensor)]
        there = rows_at(places, devices[0]) if devices else places
        for name, value in rows.items():
            column = self.columns[name]
            if isinstance(column, Tensor):
                column[there] = torch.as_tensor(value[-count:]).to(column)
            else:
                column[places] = value[-count:]

    def newest(self, count: int) -> Int[np.ndarray, " m"]:
        """Return the places of the newest rows, as many as there are."""
        return np.arange(self.added - min(count, len(self)), self.added) % self.capacity

    def tensors(self) -> dict[str, Tensor]:
        """Return what is there, for `from_tensors`; views of it, as it may fill much of the device."""
        held = {name: torch.as_tensor(column[: len(self)]) for name, column in self.columns.items()}
        return held | {"counts": torch.tensor([self.capacity, self.added])}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], device: torch.device, on_host: tuple[str, ...]) -> "Ring":
        """Take up what `tensors` gave; the columns of these names stay on the host."""
        tensors = dict(tensors)
        capacity, added = tensors.pop("counts").tolist()
        ring = cls(capacity)
        ring.added = added
        for name, value in tensors.items():
            ring.columns[name] = value.numpy().copy() if name in on_host else value.to(device, copy=True)
        return ring

    def _reserve(self, rows: dict[str, Any], count: int) -> None:
        for name, value in rows.items():
            column = self.columns.get(name)
            room = 0 if column is None else len(column)
            if room >= count:
                continue
            room = min(max(count, 2 * room, _FIRST_ROWS), self.capacity)
            if isinstance(value, Tensor):
                larger = value.new_zeros(room, *value.shape[1:])
            else:
                larger = np.zeros((room, *value.shape[1:]), dtype=value.dtype)
            if column is not None:
                larger[: len(column)] = column
            self.columns[name] = larger


def part_of(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `name/`, without that."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
