"""How far a network's confidence is from its accuracy."""

from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from supermix_pl.arguments import check_at_least


def calibration_error(logits: Float[Tensor, "b n"], labels: Int[Tensor, " b"], *, bins: int = 15) -> float:
    """Return the expected calibration error: mean |accuracy - confidence| of equally wide bins, weighed by their sizes.

    Raises:
        ValueError: If there are no bins.
    """
    check_at_least("bins", bins, 1)
    probabilities = logits.float().softmax(dim=1)
    error = multiclass_calibration_error(probabilities, labels, num_classes=logits.shape[1], n_bins=bins, norm="l1")
    return float(error)
