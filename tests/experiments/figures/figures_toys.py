"""A teacher that knows red, green and blue, and images that it recognises."""

import torch
from torch import nn

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.shared.subject import Subject

CLASSES = ["red, of any kind", "gr$een", "blue"]
SIZE = 8


def teacher() -> FrozenTeacher:
    """Logits are the means of the channels, times 40."""
    conv = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(40 * torch.eye(3)[:, :, None, None])
    return FrozenTeacher(nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten()))


def subject(num_images: int = 12) -> Subject:
    """Noise with a coloured square in the upper left."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_images) % 3
    images = 0.3 * torch.rand(num_images, 3, SIZE, SIZE, generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[label, :4, :4] = 1.0
    return Subject(
        teacher=teacher(),
        images=images,
        labels=labels,
        class_names=CLASSES,
        mean=None,
        std=None,
        supermix=SuperMix(mask_size=4, max_steps=4),
        seed=0,
        data="toys",
        network="that knows colours",
        note="made up",
    )
