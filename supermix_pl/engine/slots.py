"""The slots of the stream engine: sets on their way, in tensors whose shapes never change."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from supermix_pl.mixing.drawn import DrawnSets
from supermix_pl.solver import Solution, Solver, SolverState
from supermix_pl.solver.chunks import Chunks, advance
from supermix_pl.solver.rounds import TeacherFunction


class Slots:
    """S places for sets; those that hold none are computed all the same and stay as they are.

    Args:
        count: S, >= 1.
        like: Sets of the kind that will come, at least one.
        start: Masks that they start from.
    """

    def __init__(self, count: int, like: DrawnSets, start: Float[Tensor, "r k s t"]) -> None:
        first = torch.zeros(count, dtype=torch.long, device=start.device)
        self._drawn = like.take(first)
        self._state = SolverState.start(self._drawn.sets, start[first])
        self._state.running[:] = False
        self._occupied = np.zeros(count, dtype=bool)
        self._told = _HostCopy(self._state.running)

    def __len__(self) -> int:
        """Count the slots."""
        return len(self._occupied)

    @property
    def image_shape(self) -> torch.Size:
        """(c, h, w) of the sources."""
        return self._drawn.sources.shape[2:]

    @property
    def k(self) -> int:
        """Sources in a set."""
        return self._drawn.sources.shape[1]

    def free(self) -> Int[np.ndarray, " f"]:
        """Name the slots that hold no set."""
        return np.flatnonzero(~self._occupied)

    def enter(self, places: Int[np.ndarray, " r"], drawn: DrawnSets, start: Float[Tensor, "r k s t"]) -> None:
        """Put new sets into free slots."""
        rows = torch.from_numpy(places).to(start.device)
        batch_is_gone = torch.full_like(drawn.source_indices, -1)
        self._drawn.put(rows, replace(drawn, source_indices=batch_is_gone))
        self._state.put(rows, SolverState.start(drawn.sets, start))
        self._occupied[places] = True

    def advance(self, solver: Solver, teacher: TeacherFunction, rounds: int, chunks: Chunks | None = None) -> None:
        """Give every set some rounds, all at once or in chunks; one that ends waits for the end of the last."""
        sets = self._drawn.sets
        for _ in range(rounds):
            self._state = advance(solver, teacher, sets, self._state, chunks)
        self._told = _HostCopy(self._state.running)

    def leave(self) -> tuple[DrawnSets, Solution] | None:
        """Take out the sets that have ended; None if there are none."""
        places = np.flatnonzero(self._occupied & ~self._told.read())
        if len(places) == 0:
            return None
        self._occupied[places] = False
        rows = torch.from_numpy(places).to(self._state.running.device)
        return self._drawn.take(rows), Solution.of(self._state.take(rows), 0, 0)

    def tensors(self) -> dict[str, Tensor]:
        """Give all that the slots hold, for `from_tensors`."""
        held = {f"drawn/{name}": value for name, value in vars(self._drawn).items()}
        held |= {f"state/{name}": value for name, value in vars(self._state).items()}
        return held | {"occupied": torch.from_numpy(self._occupied.copy())}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], device: torch.device) -> "Slots":
        """Take up what `tensors` gave."""
        parts: dict[str, dict[str, Tensor]] = {"drawn": {}, "state": {}}
        for name, value in tensors.items():
            part, _, field = name.partition("/")
            if field:
                parts[part][field] = value.to(device, copy=True)
        slots = cls.__new__(cls)
        slots._drawn, slots._state = DrawnSets(**parts["drawn"]), SolverState(**parts["state"])
        slots._occupied = tensors["occupied"].numpy().copy()
        slots._told = _HostCopy(slots._state.running)
        return slots


class _HostCopy:
    """A copy of flags that the host reads later, so that it need not wait for the device now."""

    def __init__(self, flags: Bool[Tensor, " s"]) -> None:
        self._event = None
        self._flags = flags
        if flags.is_cuda:
            self._flags = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
            self._flags.copy_(flags, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> Bool[np.ndarray, " s"]:
        """Wait until the copy is there, and give it."""
        if self._event is not None:
            self._event.synchronize()
        return self._flags.numpy()
