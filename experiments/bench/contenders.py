"""The solvers of Table 4: as the paper has them, and with settings that were tuned on other images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from supermix_pl import SuperMix
from supermix_pl.experiments.bench.curve import Cost
from supermix_pl.solver import SGD, Newton, UpdateRule

RATES = (0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)
ROUGHNESS_WEIGHTS = (0.0, 25.0, 50.0, 100.0, 250.0)
BOUNDS = (1.0, 2.0, 4.0)
REFERENCE = "newton_sp"

PAPER = ("sgd", "newton", REFERENCE)
"""Update rules with the paper's settings: learning rate 0.1 and lambda_sigma 250 for the first two."""
TUNED = ("sgd_rate", "sgd_smooth", "sgd_sharp", "sgd_alike", "newton_smooth", "newton_sharp", "newton_sp_bound")
"""What is tuned, and what must hold of the masks:

- sgd_rate: the learning rate, with the paper's lambda_sigma;
- sgd_smooth, sgd_sharp, sgd_alike: learning rate and lambda_sigma, so that the masks are on average no rougher than the
  reference's, no softer (mean of m(1 - m)), or neither;
- newton_smooth, newton_sharp: lambda_sigma, likewise;
- newton_sp_bound: a bound on the largest change of a mask logit in a step of the reference.
"""
NAMES = (*PAPER, *TUNED)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Settings to try.

    Args:
        rates: Learning rates of gradient descent.
        weights: Values of lambda_sigma.
    """

    rates: Sequence[float] = RATES
    weights: Sequence[float] = ROUGHNESS_WEIGHTS


def candidates(base: SuperMix, name: str, grid: Grid) -> list[SuperMix]:
    """List what is tried for a tuned solver.

    Args:
        base: The mixer with the reference's update rule and no bound.
        name: One of `TUNED`.
        grid: Learning rates and values of lambda_sigma.
    """
    if name == "newton_sp_bound":
        return [base, *(replace(base, max_logit_step=bound) for bound in BOUNDS)]
    rules: list[UpdateRule]
    if name == "sgd_rate":
        rules = [SGD(learning_rate=rate) for rate in grid.rates]
    elif name.startswith("sgd"):
        rules = [SGD(learning_rate=rate, roughness_weight=weight) for rate in grid.rates for weight in grid.weights]
    else:
        rules = [Newton(roughness_weight=weight) for weight in grid.weights]
    return [replace(base, update_rule=rule) for rule in rules]


def best(name: str, tried: Sequence[tuple[SuperMix, Cost]], reference: Cost) -> SuperMix | None:
    """Choose the fewest steps among the settings whose masks are as they must be; None if there is no such setting.

    An unsolved set counts with all steps up to the limit; masks are those of the solved sets.
    """
    smooth, sharp = name.endswith(("_smooth", "_alike")), name.endswith(("_sharp", "_alike"))
    fitting = [
        (result.set_steps, place)
        for place, (_, result) in enumerate(tried)
        if result.solved
        and (not smooth or result.roughness <= reference.roughness)
        and (not sharp or result.softness <= reference.softness)
    ]
    return tried[min(fitting)[1]][0] if fitting else None
