"""Learning rate schedules over a whole training, in shares of its steps, so that they fit any budget.

All rise linearly to the optimiser's learning rate over `warmup`, a share of the `total_steps` in [0, 1).
"""

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from supermix_pl.arguments import check_positive, check_share


def constant(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.0) -> LambdaLR:
    """Rise linearly, then keep the learning rate."""
    return _scaled(optimizer, total_steps, warmup, lambda share: 1.0)


def cosine(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.0) -> LambdaLR:
    """Rise linearly, then fall to 0 along half a cosine."""
    return _scaled(optimizer, total_steps, warmup, lambda share: 0.5 * (1 + math.cos(math.pi * share)))


def linear(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.25) -> LambdaLR:
    """Rise linearly, then fall linearly to 0: one cycle, good for short budgets."""
    return _scaled(optimizer, total_steps, warmup, lambda share: 1 - share)


def multistep(
    optimizer: Optimizer,
    total_steps: int,
    *,
    milestones: Sequence[float] = (0.625, 0.75, 0.875),
    gamma: float = 0.1,
    warmup: float = 0.0,
) -> LambdaLR:
    """Multiply the learning rate by gamma, > 0, at each milestone.

    Milestones are shares of the whole training, in (0, 1); the defaults are epochs 150, 180, 210 of 240.
    """
    if isinstance(milestones, str) or not isinstance(milestones, Sequence):
        raise ValueError(f"expected milestones as a list of shares of the training in (0, 1), got {milestones!r}")
    for milestone in milestones:
        if not 0 < milestone < 1:
            raise ValueError(
                f"expected milestones as shares of the training in (0, 1), got {milestone}; divide epochs by "
                "their number"
            )
    check_positive("gamma", gamma)

    def factor(share: float) -> float:
        whole = warmup + share * (1 - warmup)
        return gamma ** sum(whole >= milestone - 1e-9 for milestone in milestones)

    return _scaled(optimizer, total_steps, warmup, factor)


def _scaled(optimizer: Optimizer, total_steps: int, warmup: float, factor: Callable[[float], float]) -> LambdaLR:
    """Scale by step / warm-up steps first, then by a factor of the share of the remaining steps."""
    check_share("warmup", warmup)
    rising = round(warmup * total_steps)

    def scale(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return factor(min(1.0, (step - rising) / max(1, total_steps - rising)))

    return LambdaLR(optimizer, scale)
