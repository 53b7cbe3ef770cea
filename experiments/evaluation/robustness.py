"""The measurements of one trained network on the test images of its data."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.functional.classification import multiclass_calibration_error

from supermix_pl.arguments import check_at_least, check_not_negative
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.data.datamodule import split_indices
from supermix_pl.experiments.data.pixels import Normalisation
from supermix_pl.experiments.data.source import Batch
from supermix_pl.experiments.evaluation.corruptions import SEVERITIES, corrupt


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What is measured, and on how much; two networks compare where this is equal."""

    epsilon: float = 2 / 255  # of the attack, on the scale [0, 1] of pixels, >= 0
    corrupted_per_class: int = 10  # test images of each class for every corruption at every severity, >= 1
    seed: int = 0  # of the noise and of the choice of images, >= 0

    def __post_init__(self) -> None:
        check_not_negative("epsilon", self.epsilon)
        check_at_least("corrupted_per_class", self.corrupted_per_class, 1)
        check_at_least("seed", self.seed, 0)

    def measure(self, network: nn.Module, datamodule: ImageDataModule) -> dict[str, Any]:
        """Measure a network, which takes images normalised as the data are; it is left in eval mode.

        Returns:
            `accuracy`, `calibration_error`, `fgsm_accuracy`, `corrupted_accuracy` (mean of all corruptions and
            severities) and `corrupted/NAME/SEVERITY`, all in [0, 1]; `nll`, the mean of -log p(label) in nats; the
            numbers of images, and `settings`.
        """
        measured, normalisation = quality(network, datamodule), datamodule.opened.normalisation
        attacked, device = [], _device(network)
        for images, labels, *_ in datamodule.test_dataloader():
            classes = labels.to(device)
            moved = fgsm(network, images.to(device), classes, epsilon=self.epsilon, normalisation=normalisation)
            attacked.append(_hits(_classify(network, moved), classes))
        corrupted = self._corrupted(network, datamodule, normalisation)
        count = corrupted.pop("images")
        return {
            **measured,
            "fgsm_accuracy": float(torch.cat(attacked).mean()),
            "corrupted_accuracy": sum(corrupted.values()) / len(corrupted),
            **corrupted,
            "images": sum(map(len, attacked)),
            "corrupted_images": count,
            "settings": asdict(self),
        }

    def _corrupted(
        self, network: nn.Module, datamodule: ImageDataModule, normalisation: Normalisation
    ) -> dict[str, Any]:
        kinds = [(name, level) for name, levels in SEVERITIES.items() for level in range(1, len(levels) + 1)]
        hits = dict.fromkeys(kinds, 0.0)
        count = 0
        for number, (images, classes) in enumerate(self._chosen(network, datamodule)):
            pixels = normalisation.pixels(images)
            for name, level in kinds:
                shown = corrupt(pixels, name, level, seed=self.seed + number)
                hits[name, level] += float(_hits(_classify(network, normalisation.normalise(shown)), classes).sum())
            count += len(classes)
        return {f"corrupted/{name}/{level}": total / count for (name, level), total in hits.items()} | {"images": count}

    def _chosen(self, network: nn.Module, datamodule: ImageDataModule) -> Iterator[Batch]:
        """Return test images and labels on the network's device; of each class as many, or all that the least has."""
        source, size = datamodule.test_dataloader().source, datamodule.eval_batch_size
        counts = np.bincount(source.labels)
        kept = min(self.corrupted_per_class, int(counts[counts > 0].min()))
        chosen = split_indices(source.labels, validation_fraction=0.0, images_per_class=kept, seed=self.seed)[0]
        parts = np.split(chosen, range(size, len(chosen), size))
        return source.batches(parts, stream=None, device=_device(network))


def fgsm(
    network: nn.Module,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"],
    *,
    epsilon: float,
    normalisation: Normalisation,
) -> Float[Tensor, "b c h w"]:
    """Move every pixel by epsilon in the direction that raises the loss, within [0, 1] (Goodfellow et al., 2015).

    Images come and go normalised; epsilon, >= 0, is on the scale [0, 1] of pixels. The network is in eval mode.
    """
    _, mean, std = normalisation.constants(images.device)
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(network(inputs).float(), labels, reduction="sum"), inputs)
    attacked = images.detach() * std + mean + epsilon * gradient.sign()
    return (attacked.clamp(0, 1) - mean) / std


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


@torch.no_grad()
def _classify(network: nn.Module, images: Tensor) -> Tensor:
    return network(images).float()


def _hits(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=1) == labels).float()


def scores(logits: Float[Tensor, "b n"], labels: Int[Tensor, " b"], *, bins: int = 15) -> dict[str, float]:
    """Return `accuracy` and `calibration_error` in [0, 1], and `nll`, the mean of -log p(label) in nats.

    The calibration error is the expected one: mean |accuracy - confidence| of equally wide bins, weighed by size.
    """
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
    device = _device(network)
    parts = [
        (network(images.to(device)).float(), labels.to(device)) for images, labels, *_ in datamodule.test_dataloader()
    ]
    logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    return scores(logits, labels)
