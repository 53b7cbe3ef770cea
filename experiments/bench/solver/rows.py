"""A row: a mixer under a limit on its steps, and what it gave."""

from dataclasses import dataclass, field

from supermix_pl.experiments.bench.cost import Cost
from supermix_pl.mixing import Mixer


@dataclass(kw_only=True)
class Row:
    """A mixer."""

    name: str
    mixer: Mixer
    rounds: int | None = None  # most steps of a set; None of one that takes none
    costs: list[Cost] = field(default_factory=list)  # one a seed
    overheads: list[float] = field(default_factory=list)  # time of a call over that of its passes alone; one a seed

    def values(self, number: str) -> list[int | float | None]:
        """Return one number of every seed."""
        return [cost.numbers()[number] for cost in self.costs]
