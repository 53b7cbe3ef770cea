"""A row: a mixer under a limit on its steps, and what it gave."""

from dataclasses import dataclass, field

from supermix_pl.experiments.bench.cost import Cost
from supermix_pl.mixing import Mixer


@dataclass(kw_only=True)
class Row:
    """A mixer.

    Attributes:
        name: In the table.
        mixer: Makes the mixes.
        rounds: Most steps of a set; None of one that takes none.
        costs: One a seed.
        overheads: Time of a call over that of its passes alone; one a seed.
    """

    name: str
    mixer: Mixer
    rounds: int | None = None
    costs: list[Cost] = field(default_factory=list)
    overheads: list[float] = field(default_factory=list)

    def values(self, number: str) -> list[int | float | None]:
        """Return one number of every seed."""
        return [cost.numbers()[number] for cost in self.costs]
