"""Measures of mixes, and the mixers that are set side by side."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from supermix_pl import FrozenTeacher, MixUp, PuzzleMix, ResizeMix, SaliencyMix, SuperMix
from supermix_pl.experiments.shared.measures import accepted, saliency_kept, saliency_placed, softness
from supermix_pl.experiments.shared.mixers import CUTMIX, EXACT, FAST, MIXUP, PAPER, as_call, fast, named_mixers
from supermix_pl.mixing import Chosen, DirectMixer
from tests.problems import NUM_CLASSES, SmoothTeacher, natural_images

BASE = SuperMix(mask_size=4, pairing="distinct")


def test_saliency_kept_set_by_set() -> None:
    mix = BASE(FrozenTeacher(SmoothTeacher()), natural_images(12), seed=0)
    saliency = torch.rand(12, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for row, kept in enumerate(saliency_kept(mix, saliency).tolist()):
        parts = [
            float((mask * saliency[source]).sum() / saliency[source].sum())
            for mask, source in zip(mix.masks[row], mix.source_indices[row].tolist(), strict=True)
        ]
        assert kept == pytest.approx(sum(parts) / 2)


def test_masks_that_are_equal_keep_an_equal_share() -> None:
    mix = BASE(FrozenTeacher(SmoothTeacher()), natural_images(12), seed=0)
    mix = dataclasses.replace(mix, masks=torch.full((12, 2, 12, 12), 0.5).double())
    torch.testing.assert_close(saliency_kept(mix, torch.rand(12, 12, 12).double()), torch.full((12,), 0.5).double())
    assert softness(mix).tolist() == 12 * [0.25]


@pytest.mark.parametrize("mixer", [ResizeMix(pairing="random"), PuzzleMix(grids=(3,)), SaliencyMix()], ids=repr)
def test_saliency_kept_by_mixers_follows_what_they_move(mixer: DirectMixer) -> None:
    teacher, images = FrozenTeacher(SmoothTeacher()), natural_images(12)
    mix = mixer(teacher, images, torch.arange(12) % NUM_CLASSES, seed=0)
    saliency = torch.rand(12, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = saliency_placed(mixer, teacher, images, mix, saliency, seed=3)
    classes = torch.arange(12) % NUM_CLASSES
    composed = mixer.compose(Chosen(np.random.default_rng(3), images, classes, mix.source_indices, teacher))
    for row, (own, other) in enumerate(mix.source_indices.tolist()):
        shares = [saliency[each] / saliency[each].sum() for each in (own, other)]
        if isinstance(mixer, ResizeMix):  # all of the pasted image is there
            expected = (composed.masks[row, 0] * shares[0]).sum() + 1
        elif isinstance(mixer, SaliencyMix):
            expected = sum((composed.masks[row, k] * shares[k]).sum() for k in (0, 1))
        else:  # each region is found again by its pixels
            expected = 0
            for k, image in enumerate((own, other)):
                for y, x, v, u in itertools.product(range(0, 12, 4), repeat=4):
                    there = composed.sources[row, k, :, y : y + 4, x : x + 4]
                    if there.equal(images[image][:, v : v + 4, u : u + 4]):
                        expected += composed.masks[row, k, y, x] * shares[k][v : v + 4, u : u + 4].sum()
        assert float(found[row]) == pytest.approx(float(expected) / 2, abs=1e-6)


def test_accepted_is_what_the_teacher_finds() -> None:
    teacher = FrozenTeacher(SmoothTeacher())
    mix = BASE(teacher, natural_images(12), seed=0)
    found = teacher(mix.images).topk(2).indices.sort(dim=1).values
    assert accepted(mix).tolist() == (found == mix.source_classes.sort(dim=1).values).all(dim=1).tolist()


def test_mixers_share_the_sets() -> None:
    found = named_mixers(SuperMix(k=3, alpha=2.0, classes="labels", chunk_size=7))
    assert list(found) == [PAPER, EXACT, FAST, MIXUP, CUTMIX]
    settings = {(mixer.k, mixer.pairing, getattr(mixer, "alpha", None)) for mixer in found.values()}
    assert settings == {(3, "distinct", 2.0)}
    assert found[FAST] == SuperMix.fast(k=3, alpha=2.0, classes="labels", chunk_size=7)
    assert fast(SuperMix(), sigma=2.0) == SuperMix.fast(sigma=2.0)


def test_a_mixer_is_written_as_its_call() -> None:
    assert as_call(SuperMix()) == "SuperMix()"
    assert as_call(SuperMix(k=3, init="saliency")) == "SuperMix(k=3, init='saliency')"
    assert as_call(MixUp()) == repr(MixUp())
