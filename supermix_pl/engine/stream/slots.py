"""The sets that are being solved, in tensors whose shapes never change, and what the host knows of them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from supermix_pl.engine.stream.images import ImageStore
from supermix_pl.engine.stream.ring import part_of
from supermix_pl.solver import Sets, SolverState
from supermix_pl.solver.rows import Rows, rows_at, to_device


@dataclass
class Drawn(Rows):
    """What sets are made of: the places of their sources in the store of images, and what is known of these.

    The mixing weights sum to 1 over k.
    """

    places: Int[Tensor, "s k"]
    classes: Int[Tensor, "s k"]
    mix_weights: Float[Tensor, "s k"]

    def sets(self, images: ImageStore, num_classes: int, keys: Int[Tensor, " s"]) -> Sets:
        """Gather what the solver is to know of the sets; see `Slots.looks` for the keys."""
        return Sets.of(images.at(self.places), self.classes, self.mix_weights, num_classes, keys)


class Slots:
    """S places for sets on their way, whose masks and logits have a dtype and a device.

    Attributes:
        drawn: What the sets are made of.
        state: Where they stand.
        ages: Visits that each has had, on the host; those that a set was spared at the start count.
        spared: Visits that each was spared, on the host.
        keys: What names the stream of chance of each set, on the host.
        oldest: The least arrival number that a source of each set may have, on the host.
        occupied: Which slots hold a set, on the host.
        next: The first slot of the next turn.
    """

    def __init__(
        self, count: int, k: int, grid: tuple[int, int], num_classes: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.drawn = Drawn(
            torch.zeros(count, k, dtype=torch.long, device=device),
            torch.zeros(count, k, dtype=torch.long, device=device),
            torch.full((count, k), 1 / k, device=device, dtype=dtype),
        )
        self.state = SolverState.start(torch.zeros(count, k, *grid, device=device, dtype=dtype), num_classes)
        self.ages = np.zeros(count, dtype=np.int64)
        self.spared = np.zeros(count, dtype=np.int64)
        self.keys = np.zeros(count, dtype=np.int64)
        self.oldest = np.zeros(count, dtype=np.int64)
        self.occupied = np.zeros(count, dtype=bool)
        self.next = 0
        self._flags: HostCopy | None = None

    def __len__(self) -> int:
        return len(self.ages)

    def turn(self, visits: int) -> Int[np.ndarray, " v"]:
        """Return the slots that are visited now, each as often as any other."""
        places = (self.next + np.arange(visits)) % len(self)
        self.next = int((self.next + visits) % len(self))
        return places

    def ended(self, places: Int[np.ndarray, " v"], rounds: int, *, early: bool) -> Int[np.ndarray, " e"]:
        """Name those of some slots whose set has ended: after `rounds` visits, or before where sets may end early."""
        ended = self.ages[places] >= rounds
        if early and self._flags is not None:
            ended |= ~self._flags.read()[places]
        return places[self.occupied[places] & ended]

    def looks(self, places: Int[np.ndarray, " v"]) -> tuple[Int[Tensor, " v"], Int[Tensor, " v"]]:
        """Return keys of some slots, and which look at each set comes next, on the host: views are drawn there."""
        return torch.from_numpy(self.keys[places]), torch.from_numpy((self.ages - self.spared)[places])

    def enter(
        self,
        places: Int[np.ndarray, " e"],
        drawn: Drawn,
        keys: Int[np.ndarray, " e"],
        start: Float[Tensor, "e k s t"],
        spared: Int[np.ndarray, " e"],
        oldest: int,
    ) -> None:
        """Put new sets into slots, with the masks that they start from; see the attributes for the rest."""
        rows = to_device(places, start.device)
        self.drawn.put(rows, drawn)
        self.state.put(rows, SolverState.start(start, self.state.teacher_logits.shape[1]))
        self.ages[places], self.spared[places], self.keys[places] = spared, spared, keys
        self.oldest[places], self.occupied[places] = oldest, True

    def visited(self, places: Int[np.ndarray, " v"], state: SolverState, *, early: bool) -> None:
        """Write back what a turn made of some slots."""
        self.state.put(rows_at(places, state.running.device), state)
        self.ages[places] += 1
        if early:
            self._flags = HostCopy(self.state.running)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that the slots hold, for `load_tensors`."""
        held = {f"drawn/{name}": value for name, value in vars(self.drawn).items()}
        held |= {f"state/{name}": value for name, value in vars(self.state).items()}
        host = np.stack([self.ages, self.spared, self.keys, self.oldest, self.occupied.astype(np.int64)])
        return held | {"host": torch.from_numpy(host), "next": torch.tensor([self.next])}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], device: torch.device) -> "Slots":
        """Take up what `tensors` gave."""
        held = {name: value.to(device, copy=True) for name, value in tensors.items()}
        slots = cls.__new__(cls)
        slots.drawn, slots.state = Drawn(**part_of(held, "drawn")), SolverState(**part_of(held, "state"))
        slots.ages, slots.spared, slots.keys, slots.oldest, occupied = tensors["host"].numpy().copy()
        slots.occupied = occupied.astype(bool)
        slots.next = int(tensors["next"])
        slots._flags = HostCopy(slots.state.running)
        return slots


class HostCopy:
    """A copy of flags that the host reads later, so that it need not wait for the device now."""

    def __init__(self, flags: Bool[Tensor, " s"]) -> None:
        self._event = None
        if not flags.is_cuda:
            self._flags = flags.to("cpu", copy=True)
        else:
            self._flags = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
            self._flags.copy_(flags, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> Bool[np.ndarray, " s"]:
        """Wait until the copy is there, and give it."""
        if self._event is not None:
            self._event.synchronize()
        return self._flags.numpy()
