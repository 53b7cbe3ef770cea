"""How the mask logits move: the interface of the update rules, and the bound on a step."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


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


def bound_step(change: Float[Tensor, "b k s t"], largest: float | None) -> Float[Tensor, "b k s t"]:
    """Shrink the changes of a set together until none exceeds `largest`; None leaves them as they are."""
    if largest is None:
        return change
    size = change.abs().amax(dim=(1, 2, 3), keepdim=True)
    return change * (largest / size.clamp_min(largest))
