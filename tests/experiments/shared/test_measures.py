"""Measures of mixes, and the mixers that are set side by side."""

import dataclasses

import pytest
import torch

from supermix_pl import FrozenTeacher, MixUp, SuperMix
from supermix_pl.experiments.shared.measures import accepted, saliency_kept, softness
from supermix_pl.experiments.shared.mixers import CUTMIX, EXACT, FAST, MIXUP, PAPER, as_call, fast, named_mixers
from tests.problems import SmoothTeacher, natural_images

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


def test_accepted_is_what_the_teacher_finds() -> None:
    teacher = FrozenTeacher(SmoothTeacher())
    mix = BASE(teacher, natural_images(12), seed=0)
    found = teacher(mix.images).topk(2).indices.sort(dim=1).values
    assert accepted(mix).tolist() == (found == mix.source_classes.sort(dim=1).values).all(dim=1).tolist()


def test_mixers_share_the_sets() -> None:
    found = named_mixers(SuperMix(k=3, alpha=2.0, classes="labels", chunk_size=7))
    assert list(found) == [PAPER, EXACT, FAST, MIXUP, CUTMIX]
    assert {(mixer.k, mixer.alpha, mixer.pairing) for mixer in found.values()} == {(3, 2.0, "distinct")}
    assert found[FAST] == SuperMix.fast(k=3, alpha=2.0, classes="labels", chunk_size=7)
    assert fast(SuperMix(), sigma=2.0) == SuperMix.fast(sigma=2.0)


def test_a_mixer_is_written_as_its_call() -> None:
    assert as_call(SuperMix()) == "SuperMix()"
    assert as_call(SuperMix(k=3, init="saliency")) == "SuperMix(k=3, init='saliency')"
    assert as_call(MixUp()) == repr(MixUp())
