"""Accuracy, calibration error and likelihood of a trained network on all test images."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.evaluation.calibration import calibration_error


@torch.no_grad()
def quality(network: nn.Module, datamodule: ImageDataModule) -> dict[str, float]:
    """Measure a network; it is left in eval mode.

    Args:
        network: Gives logits of images that are normalised as the data are.
        datamodule: Gives the test images; set up.

    Returns:
        `accuracy` and `calibration_error` in [0, 1], and `nll`, the mean of -log p(label) in nats.
    """
    network.eval()
    device = next(network.parameters()).device
    parts = [
        (network(images.to(device)).float(), labels.to(device)) for images, labels, *_ in datamodule.test_dataloader()
    ]
    logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    return {
        "accuracy": float((logits.argmax(dim=1) == labels).float().mean()),
        "calibration_error": calibration_error(logits, labels),
        "nll": float(cross_entropy(logits, labels)),
    }
