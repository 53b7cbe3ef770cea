"""Newton's method for the root of a set's loss, with smooth projection (Eq. 7) or without (Eq. 6)."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from supermix_pl.arguments import check_not_negative
from supermix_pl.solver.smoothing import smooth

_SMALLEST_LENGTH, _LARGEST_LENGTH = 1e-4, 2000.0


@dataclass(frozen=True, kw_only=True)
class NewtonSmoothProjection:
    """Newton's method with smooth projection (Eq. 7 of Dabouei et al., 2021).

    Deviation: the factor of the smoothed gradient is kept in [1e-4, 2000], as in the authors' code; the printed one has
    no bound where the gradient vanishes.

    Args:
        sigma: Standard deviation of the Gaussian in cells of the mask grid, >= 0.
        roughness_weight: Weight of the total variation, >= 0; the smooth steps need none.
    """

    sigma: float = 1.0
    roughness_weight: float = 0.0

    def __post_init__(self) -> None:
        check_not_negative("sigma", self.sigma)
        check_not_negative("roughness_weight", self.roughness_weight)

    def step(self, loss: Float[Tensor, " b"], gradient: Float[Tensor, "b k s t"]) -> Float[Tensor, "b k s t"]:
        """Return the smooth change that solves loss + gradient . change = 0 in every set."""
        direction = smooth(gradient, self.sigma)
        slope = (direction * gradient).sum(dim=(1, 2, 3))
        length = (loss / (slope + 1e-10)).clamp(_SMALLEST_LENGTH, _LARGEST_LENGTH)
        return -length[:, None, None, None] * direction


@dataclass(frozen=True, kw_only=True)
class Newton(NewtonSmoothProjection):
    """Newton's method without smooth projection; total variation keeps the masks smooth (Section 4.4).

    Deviation: Eq. 6 divides by the norm of the gradient; the units ask for its square, which is Eq. 7 without g_sigma.

    Args:
        roughness_weight: lambda_sigma, the weight of the total variation, >= 0.
    """

    sigma: float = field(default=0.0, init=False, repr=False)
    roughness_weight: float = 250.0
