"""Accuracy, calibration error and likelihood of a trained network on all test images."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.functional.classification import multiclass_calibration_error

from supermix_pl.arguments import check_at_least
from supermix_pl.experiments.data import ImageDataModule


def scores(logits: Float[Tensor, "b n"], labels: Int[Tensor, " b"], *, bins: int = 15) -> dict[str, float]:
    """Return `accuracy` and `calibration_error` in [0, 1], and `nll`, the mean of -log p(label) in nats.

    The calibration error is the expected one: mean |accuracy - confidence| of equally wide bins, weighed by size.
    """
    check_at_least("bins", bins, 1)
    probabilities, n = logits.float().softmax(dim=1), logits.shape[1]
    error = multiclass_calibration_error(probabilities, labels, num_classes=n, n_bins=bins, norm="l1")
    return {
        "accuracy": float((logits.argmax(dim=1) == labels).float().mean()),
        "calibration_error": float(error),
        "nll": float(cross_entropy(logits, labels)),
    }


@torch.no_grad()
def quality(network: nn.Module, datamodule: ImageDataModule) -> dict[str, float]:
    """Measure a network, which gives logits of images that are normalised as the data are, on all test images.

    It is left in eval mode; the data are set up. See `scores`.
    """
    network.eval()
    device = next(network.parameters()).device
    parts = [
        (network(images.to(device)).float(), labels.to(device)) for images, labels, *_ in datamodule.test_dataloader()
    ]
    logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    return scores(logits, labels)
