"""Gradient descent on the masks, the paper's slowest baseline (Section 4.4)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from supermix_pl.arguments import check_not_negative, check_positive


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
