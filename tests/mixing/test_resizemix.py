"""ResizeMix against torch's own resizing."""

import numpy as np
import torch
from torch.nn.functional import interpolate

from supermix_pl import FrozenTeacher, ResizeMix
from tests.problems import SmoothTeacher, natural_images


def test_the_box_shows_all_of_the_other_image_resized() -> None:
    images = natural_images(32, (16, 12))
    mix = ResizeMix(scale=(0.05, 1.0))(FrozenTeacher(SmoothTeacher()), images, seed=0)
    tau = np.random.default_rng(0).uniform(0.05, 1.0, size=32)
    corners = set()
    for row, (own, other) in enumerate(mix.source_indices.tolist()):
        box = mix.masks[row, 1].bool()
        height, width = max(1, round(16 * tau[row])), max(1, round(12 * tau[row]))
        top, left = (int(box.any(dim=dim).nonzero()[0]) for dim in (1, 0))
        expected = images[own].clone()
        small = interpolate(images[other][None], (height, width), mode="bilinear", antialias=True)[0]
        expected[:, top : top + height, left : left + width] = small
        torch.testing.assert_close(mix.images[row], expected)
        assert box.sum() == height * width
        corners.add((top, left))
    assert len(corners) > 15
    torch.testing.assert_close(mix.mix_weights[:, 1], mix.masks[:, 1].mean(dim=(1, 2)))


def test_scales_are_uniform_between_the_two() -> None:
    images, labels = torch.zeros(400, 1, 32, 32), torch.zeros(400, dtype=torch.long)
    side = ResizeMix(num_classes=2)(None, images, labels, seed=0).mix_weights[:, 1].sqrt()
    assert 0.09 < side.min() < 0.13
    assert 0.77 < side.max() < 0.82
    assert abs(side.mean() - 0.45) < 0.04
