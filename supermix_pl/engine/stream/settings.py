"""What a user asks of a stream."""

import math
from dataclasses import dataclass, fields

from jaxtyping import Float
from torch import Tensor

from supermix_pl.arguments import check_at_least, check_positive, shortest

_DEFAULT_REUSE = 12.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Settings:
    """The arguments of `StreamEngine`, which says what they mean, but for the view; the sources as a tensor."""

    reuse: float | None
    budget: float | None
    slots: int | None
    show_from: int | None
    store_bytes: int
    sources: Float[Tensor, "n c h w"] | None = None

    def __post_init__(self) -> None:
        if self.reuse is not None and self.budget is not None:
            raise ValueError(f"expected at most one of reuse and budget, got {self.reuse} and {self.budget}")
        for name, share in (("reuse", self.reuse), ("budget", self.budget)):
            if share is not None:
                check_positive(name, share)
        if self.slots is not None:
            check_at_least("slots", self.slots, 1)
        if self.show_from is not None:
            check_at_least("show_from", self.show_from, 0)
        check_at_least("store_bytes", self.store_bytes, 1)

    def __str__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "sources"}
        told = {name: shortest(value) for name, value in given.items() if value is not None}
        sources = {} if self.sources is None else {"sources": f"<{tuple(self.sources.shape)}>"}
        return ", ".join(f"{name}={value}" for name, value in (told | sources).items())

    def reuse_now(self, chosen: float | None) -> float:
        """Return the views of a set that the student sees: what a budget chose, what was asked for, or the default."""
        return chosen or self.reuse or _DEFAULT_REUSE

    def first_shown(self, rounds: float) -> int:
        """Return the first visit of a set that the student sees, of so many."""
        return math.ceil(rounds / 2) if self.show_from is None else self.show_from
