"""SuperMix end to end against the oracle: its own pairs and weights, both starts, what it costs."""

from typing import Any

import numpy as np
import pytest
import torch

from supermix_pl import MixedBatch, SuperMix
from supermix_pl.mixing.sampling import draw_keys, draw_sources, draw_weights
from supermix_pl.transforms import RandomCropFlip
from tests import oracle
from tests.problems import SmoothTeacher, natural_images, outcome_names

CLOSE: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-7}


def looking_through(
    teacher: SmoothTeacher, view: RandomCropFlip | None, key: torch.Tensor, look: int
) -> oracle.Teacher:
    """The teacher behind the view of one look at one set."""

    def see(images: torch.Tensor) -> torch.Tensor:
        if view is None:
            return teacher(images)
        top, left, mirrored = view.draw(key.view(1), torch.tensor([look]), (9, 13))[0].tolist()
        return teacher(oracle.crop_and_flip(images[0], top, left, mirrored=bool(mirrored), padding=1)[None])

    return see


def oracle_results(
    teacher: SmoothTeacher, images: torch.Tensor, mix: MixedBatch, mixer: SuperMix, labels: torch.Tensor
) -> list[oracle.OracleResult]:
    """Solve every set of a mixed batch again, one by one."""
    results = []
    for rows, classes, weights in zip(mix.source_indices.tolist(), mix.source_classes, mix.mix_weights, strict=True):
        start = None
        if mixer.init != "zeros":
            contrast = mixer.init == "contrast"
            shape = {"mask_size": mixer.mask_grid, "sigma": 4 * mixer.sigma if contrast else mixer.sigma}
            ones = [oracle.saliency_one(teacher, images[row], int(labels[row]), **shape) for row in rows]
            start = oracle.contrast_init(ones, weights.tolist()) if contrast else oracle.saliency_init(ones)
        assert isinstance(mixer.update_rule, str)
        assert mixer.objective != "margin"
        result = oracle.solve_one(
            teacher,
            images[rows],
            classes,
            weights,
            mask_size=mixer.mask_grid,
            lambda_s=mixer.lambda_s,
            sigma=mixer.sigma,
            min_steps=mixer.min_steps,
            max_steps=mixer.max_steps,
            update_rule=mixer.update_rule,
            max_logit_step=mixer.max_logit_step,
            momentum=mixer.momentum,
            objective_name=mixer.objective,
            init_logits=start,
        )
        results.append(result)
    return results


@pytest.mark.parametrize("rule", ["newton_sp", "newton", "sgd"])
@pytest.mark.parametrize("init", ["zeros", "saliency", "contrast"])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_masks_images_steps_outcomes_and_passes(k: int, init: str, rule: str) -> None:
    teacher, images = SmoothTeacher(), natural_images(9, (9, 13), seed=k)
    mixer = SuperMix(k=k, init=init, update_rule=rule, mask_size=(3, 5), max_steps=6, max_logit_step=4.0)  # pyright: ignore
    mix = mixer(teacher, images, seed=3)
    assert mix.images.dtype == mix.masks.dtype == mix.mix_weights.dtype == torch.float64
    labels = teacher(images).argmax(dim=1)
    assert mix.source_classes.equal(labels[mix.source_indices])
    expected = oracle_results(teacher, images, mix, mixer, labels)
    assert outcome_names(mix.outcomes) == [one.outcome for one in expected]
    assert mix.num_steps.tolist() == [one.num_steps for one in expected]
    assert mix.teacher_forwards == 9 + sum(one.forwards for one in expected)
    torch.testing.assert_close(mix.masks, torch.stack([one.masks for one in expected]), **CLOSE)
    torch.testing.assert_close(mix.images, torch.stack([one.image for one in expected]), **CLOSE)
    torch.testing.assert_close(mix.teacher_logits, torch.stack([one.teacher_logits for one in expected]), **CLOSE)
    for row in range(9):
        target = oracle.soft_target(mix.source_classes[row].tolist(), mix.mix_weights[row].numpy(), 6)
        torch.testing.assert_close(mix.soft_targets[row], torch.from_numpy(target), **CLOSE)


@pytest.mark.parametrize("views", [None, RandomCropFlip(padding=1)])
@pytest.mark.parametrize("k", [2, 3])
def test_the_fast_settings(k: int, views: RandomCropFlip | None) -> None:
    """The keys of the sets, which name their views, are drawn behind sources and weights."""
    teacher, images = SmoothTeacher(), natural_images(9, (9, 13), seed=k)
    mixer = SuperMix.fast(k=k, mask_size=(3, 5), sigma=0.7, max_steps=5, views=views)
    mix = mixer(teacher, images, seed=3)
    rng, classes = np.random.default_rng([3]), teacher(images).argmax(dim=1)
    assert mix.source_indices.numpy().tolist() == draw_sources(rng, 9, k, "distinct", classes.numpy()).tolist()
    np.testing.assert_array_equal(mix.mix_weights.numpy(), draw_weights(rng, 9, k, mixer.alpha))
    keys = torch.from_numpy(draw_keys(rng, 9))
    for row, rows in enumerate(mix.source_indices.tolist()):
        masks, _ = oracle.solve_fixed(
            [looking_through(teacher, views, keys[row], look) for look in range(5)],
            images[rows],
            mix.source_classes[row],
            mix.mix_weights[row],
            mask_size=(3, 5),
            lambda_s=mixer.lambda_s,
            sigma=0.7,
            max_logit_step=mixer.max_logit_step,
            momentum=mixer.momentum,
            objective_name="criterion",
        )
        expected = oracle.normalise(oracle.upsample(masks.numpy(), (9, 13)))
        torch.testing.assert_close(mix.masks[row], torch.from_numpy(expected), **CLOSE)


def test_given_labels_decide_classes_and_saliency() -> None:
    teacher, images = SmoothTeacher(), natural_images(8)
    labels = torch.arange(8) % 6
    mixer = SuperMix(k=2, init="saliency", classes="labels", mask_size=4, max_steps=5)
    mix = mixer(teacher, images, labels, seed=0)
    expected = oracle_results(teacher, images, mix, mixer, labels)
    assert mix.source_classes.equal(labels[mix.source_indices])
    assert mix.num_steps.tolist() == [one.num_steps for one in expected]
    torch.testing.assert_close(mix.images, torch.stack([one.image for one in expected]), **CLOSE)


@pytest.mark.parametrize("pairing", ["random", "distinct"])
def test_other_pairings(pairing: str) -> None:
    teacher, images = SmoothTeacher(), natural_images(8)
    mixer = SuperMix(k=3, pairing=pairing, mask_size=4, max_steps=5)  # pyright: ignore[reportArgumentType]
    mix = mixer(teacher, images, seed=0)
    expected = oracle_results(teacher, images, mix, mixer, teacher(images).argmax(dim=1))
    assert mix.num_steps.tolist() == [one.num_steps for one in expected]
    torch.testing.assert_close(mix.masks, torch.stack([one.masks for one in expected]), **CLOSE)
