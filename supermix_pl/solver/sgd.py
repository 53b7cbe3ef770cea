"""Gradient descent on the masks, the paper's slowest baseline (Section 4.4)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Plain gradient descent; total variation keeps the masks smooth.

    Args:
        learning_rate: Step per unit of gradient, > 0.
        roughness_weight: lambda_sigma, the weight of the total variation, >= 0.
    """

    learning_rate: float = 0.1
    roughness_weight: float = 250.0

    def step(self, loss: Float[Tensor, " b"], gradient: Float[Tensor, "b k s t"]) -> Float[Tensor, "b k s t"]:
        """Give the change of the mask logits; the loss itself plays no part."""
        return -self.learning_rate * gradient
