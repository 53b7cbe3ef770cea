"""SaliencyMix against its box and its saliency written out."""

import numpy as np
import torch

from supermix_pl import SaliencyMix
from supermix_pl.mixing.saliencymix import fine_grained_saliency
from supermix_pl.mixing.sampling import draw_weights
from tests.problems import natural_images


def test_saliency_is_how_far_a_pixel_is_from_its_surroundings() -> None:
    images = natural_images(2, (30, 26))
    grey = images.mean(dim=1).numpy()
    expected = np.zeros_like(grey)
    for number, y, x in np.ndindex(*grey.shape):
        for radius in (12, 24, 28, 48, 56, 112):
            around = grey[number, max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            surround = (around.sum() - grey[number, y, x]) / (around.size - 1)
            expected[number, y, x] += abs(grey[number, y, x] - surround)
    np.testing.assert_allclose(fine_grained_saliency(images).numpy(), expected, rtol=1e-5)


def test_the_box_lies_around_the_most_salient_pixel_of_the_other_image() -> None:
    images = natural_images(24, (14, 10))
    mix = SaliencyMix(num_classes=5)(None, images, torch.arange(24) % 5, seed=2)
    share = np.sqrt(draw_weights(np.random.default_rng(2), 24, 2, 1.0)[:, 1])
    saliency = fine_grained_saliency(images).numpy()
    cut = 0
    for row, (own, other) in enumerate(mix.source_indices.tolist()):
        y, x = np.unravel_index(saliency[other].argmax(), (14, 10))
        height, width = round(14 * share[row]), round(10 * share[row])
        rows = slice(max(0, y - height // 2), max(0, y - height // 2 + height))
        columns = slice(max(0, x - width // 2), max(0, x - width // 2 + width))
        expected = images[own].clone()
        expected[:, rows, columns] = images[other][:, rows, columns]
        assert mix.images[row].equal(expected)
        area = mix.masks[row, 1].mean()
        torch.testing.assert_close(mix.mix_weights[row], torch.stack([1 - area, area]))
        cut += round(float(area) * 140) < height * width
    assert cut > 0
