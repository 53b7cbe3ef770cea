"""Whether mixes do what they are for, judged once without waiting for the device in every step."""

from torch import Tensor

from supermix_pl.mixing import MixedBatch

_FIRST, _LAST = 200, 400
_TOO_FEW = 0.2


class Success:
    """The share of mixes that hold, or are solved where no view tells, over batches 200 to 400 of a fit.

    Attributes:
        share: Known from the last of these batches on.
    """

    def __init__(self) -> None:
        self.share = 1.0
        self._batches = 0
        self._sum: Tensor | float = 0.0

    def is_low(self, mix: MixedBatch) -> bool:
        """Take in the mixes of a batch; true once, if too few were good."""
        self._batches += 1
        if not _FIRST < self._batches <= _LAST:
            return False
        good = mix.solved if mix.holds is None else mix.holds
        self._sum = self._sum + good.float().mean()
        if self._batches < _LAST:
            return False
        self.share = float(self._sum) / (_LAST - _FIRST)
        return self.share < _TOO_FEW
