"""The networks that are measured on a GPU, with the settings of their data sets."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.bench.subject import Subject
from supermix_pl.experiments.bench.table4_cases import DATASETS, SHAPES, Dataset

NETWORKS = {
    "wrn_16_2": ("cifar", "resnet20"),
    "wrn_40_2": ("cifar", "wrn_16_2"),
    "resnet34": ("imagenet", "imagenet_resnet18"),
    "resnet8": ("cifar", "resnet8"),
}
"""Teachers: data set and student."""

_PASSES_TO_CALIBRATE = 20
_SPREAD = 4.0


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A teacher on a device, with a batch of images there.

    Args:
        name: Of the network.
        subject: By which they were opened.
        dataset: Settings of its data set.
        teacher: In float32, with batch norm folded.
        images: A batch.
        labels: Their classes.
    """

    name: str
    subject: Subject
    dataset: Dataset
    teacher: FrozenTeacher
    images: Float[Tensor, "b c h w"]
    labels: Int[Tensor, " b"]

    @property
    def student(self) -> str:
        """Name of the network that is trained."""
        return NETWORKS[self.name][1]


def subject_of(name: str, checkpoints: Mapping[str, str], data: Mapping[str, str], num_images: int) -> Subject:
    """Say what is opened.

    Args:
        name: Of the network.
        checkpoints: Files of weights by name of the network.
        data: Folders of Parquet shards by data set; the embedded set where there is none.
        num_images: In the batch.
    """
    key = NETWORKS[name][0]
    dataset, folder = DATASETS[key], data.get(key, SHAPES)
    return Subject(
        network=dataset.prefix + name,
        checkpoint=checkpoints.get(name),
        data=folder,
        split="test",
        num_images=num_images,
        mean=dataset.mean,
        std=dataset.std,
        crop=None if folder == SHAPES else dataset.crop,
    )


def open_network(name: str, subject: Subject, device: torch.device, side: int) -> Opened:
    """Load a network and its batch; without trained weights its predictions are at least made to differ.

    Args:
        name: Of the network.
        subject: From `subject_of`.
        device: Where to.
        side: In pixels, to which images of the embedded set, small ones, are enlarged for networks of large ones.
    """
    dataset = DATASETS[NETWORKS[name][0]]
    teacher, images, labels = subject.open_labelled(device)
    images, labels = images.to(device), labels.to(device)
    if subject.data == SHAPES and dataset.crop is not None:
        images = interpolate(images, (side, side), mode="bilinear")
    if subject.checkpoint is None:
        calibrate(teacher, images)
    return Opened(name=name, subject=subject, dataset=dataset, teacher=teacher, images=images, labels=labels)


@torch.no_grad()
def calibrate(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"]) -> None:
    """Fit an untrained network's batch norm and last layer to images, so that it gives them different classes.

    Raises:
        ValueError: If it does not end in a linear layer.
    """
    module = teacher.module.train()
    for _ in range(_PASSES_TO_CALIBRATE):
        module(images)
    module.eval()
    last = [part for part in module.modules() if isinstance(part, nn.Linear)][-1:]
    logits = module(images)
    if not last or last[0].out_features != logits.shape[1]:
        raise ValueError(f"expected a network that ends in a linear layer, got {type(module).__name__}")
    scale = _SPREAD / logits.std(dim=0).mean().clamp_min(1e-12)
    last[0].weight *= scale
    last[0].bias.copy_((last[0].bias - logits.mean(dim=0)) * scale)
    teacher.refold()
