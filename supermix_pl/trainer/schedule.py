"""Which batches of a fit are mixed."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from supermix_pl.arguments import check_at_least, check_one_of, check_probability


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The arguments are those of `SuperMixCallback`; so are the errors."""

    probability: float = 1.0
    every_n_batches: int = 1
    start_epoch: int = 0
    before_start: Literal["nothing", "mixup"] = "nothing"
    stop_epoch: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)
        check_at_least("every_n_batches", self.every_n_batches, 1)
        check_at_least("start_epoch", self.start_epoch, 0)
        check_one_of("before_start", self.before_start, ("nothing", "mixup"))
        if self.stop_epoch is not None:
            check_at_least("stop_epoch", self.stop_epoch, self.start_epoch + 1)
        check_at_least("seed", self.seed, 0)
        if self.before_start == "mixup" and self.start_epoch == 0:
            raise ValueError(
                'expected start_epoch >= 1 for before_start="mixup", got 0: there is no epoch before it; give the '
                "first epoch that the teacher supervises"
            )

    @property
    def every_batch(self) -> bool:
        """Whether the teacher supervises mixes in every batch of a fit."""
        always = self.probability == 1 and self.every_n_batches == 1
        return always and self.start_epoch == 0 and self.stop_epoch is None

    def is_early(self, epoch: int) -> bool:
        """Return whether the teacher does not supervise yet."""
        return epoch < self.start_epoch

    def mixes(self, epoch: int, number: int) -> bool:
        """Decide on the batch of a number from what all ranks share, so that their batches keep equal sizes."""
        late = self.stop_epoch is not None and epoch >= self.stop_epoch
        if late or number % self.every_n_batches or (self.is_early(epoch) and self.before_start == "nothing"):
            return False
        return self.probability == 1 or np.random.default_rng([self.seed, number]).random() < self.probability
