"""How the mask logits move: the update rules of the paper, and the bound on a step."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from supermix_pl.arguments import check_not_negative, check_positive
from supermix_pl.solver.smoothing import smooth

_SMALLEST_LENGTH, _LARGEST_LENGTH = 1e-4, 2000.0


@runtime_checkable
class UpdateRule(Protocol):
    """A step of the mask logits of all sets at once."""

    @property
    def roughness_weight(self) -> float:
        """lambda_sigma, the weight of the total variation in the objective that this rule descends."""
        ...

    def step(self, loss: Float[Tensor, " b"], gradient: Float[Tensor, "b k s t"]) -> Float[Tensor, "b k s t"]:
        """Return the change of the mask logits from each set's loss and its gradient."""
        ...


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


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Plain gradient descent; total variation keeps the masks smooth.

    The defaults are the paper's, on its own scale: sparsity (Eq. 5) and total variation are means over sources and
    pixels, and the gradient is that of one set's loss. On that scale a step hardly moves the masks: of CIFAR-100 sets
    an eighth is solved in 2000 steps, and other scales of the whole loss are other learning rates. Rates from 3 to 100
    take some ten steps, with a smaller lambda_sigma; the benchmark of Table 4 has such rows too.

    Deviation: the paper prints the total variation of m, which may be the mask logits, and not of the normalised masks
    m~ as in Eq. 5; here it is of the normalised masks at the size of the images. Its lambda_sigma is printed lambda_s.

    Args:
        learning_rate: Step per unit of gradient, > 0.
        roughness_weight: lambda_sigma, the weight of the total variation, >= 0.
    """

    learning_rate: float = 0.1
    roughness_weight: float = 250.0

    def __post_init__(self) -> None:
        check_positive("learning_rate", self.learning_rate)
        check_not_negative("roughness_weight", self.roughness_weight)

    def step(self, loss: Float[Tensor, " b"], gradient: Float[Tensor, "b k s t"]) -> Float[Tensor, "b k s t"]:
        """Return the change of the mask logits; the loss itself plays no part."""
        return -self.learning_rate * gradient


def bound_step(change: Float[Tensor, "b k s t"], largest: float | None) -> Float[Tensor, "b k s t"]:
    """Shrink the changes of a set together until none exceeds `largest`; None leaves them as they are."""
    if largest is None:
        return change
    size = change.abs().amax(dim=(1, 2, 3), keepdim=True)
    return change * (largest / size.clamp_min(largest))
