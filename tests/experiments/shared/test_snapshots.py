"""Mixes after some rounds of one run, and how they fare under fresh views."""

import dataclasses
from typing import Any

import pytest
import torch

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.shared.mixers import named_mixers
from supermix_pl.experiments.shared.snapshots import look, snapshots
from supermix_pl.transforms import RandomCropFlip, RandomResizedCropFlip
from tests.problems import SmoothTeacher, natural_images

BASE = SuperMix(mask_size=4, pairing="distinct")
ROUNDS = (1, 2, 4)
VIEW = RandomCropFlip(padding=1)


def teacher() -> FrozenTeacher:
    wrapped = FrozenTeacher(SmoothTeacher())
    wrapped(natural_images(1))  # from now on it knows how many classes there are
    return wrapped


def mixers() -> dict[str, Any]:
    tried = {"on exact pixels": {"views": None, "mask_size": 4}, "contrast": {"mask_size": 6, "init": "contrast"}}
    return {**named_mixers(BASE), **{name: SuperMix.fast(**changes) for name, changes in tried.items()}}


@pytest.mark.parametrize("name", [*mixers()])
def test_a_snapshot_is_what_a_mixer_with_that_limit_gives(name: str) -> None:
    mixer, images = mixers()[name], natural_images(12)
    found = snapshots(mixer, teacher(), images, None, seed=(0, 3), rounds=ROUNDS, view=VIEW)
    assert [each.rounds for each in found] == list(ROUNDS)
    for each in found:
        limited = dataclasses.replace(mixer, max_steps=each.rounds) if isinstance(mixer, SuperMix) else mixer
        mix = limited(teacher(), images, seed=(0, 3), view=VIEW)
        torch.testing.assert_close(each.mix.masks, mix.masks)
        assert each.mix.source_indices.equal(mix.source_indices)
        assert each.mix.num_steps.equal(mix.num_steps)
        passes = mix.teacher_forwards - mix.label_forwards, mix.teacher_backwards
        assert (each.mix.teacher_forwards - each.mix.label_forwards, each.mix.teacher_backwards) == passes
    masks = [each.mix.masks for each in found]
    assert masks[0].equal(masks[-1]) == (not isinstance(mixer, SuperMix)), "the setting tests too little"


def test_looks_are_the_teachers_of_fresh_views() -> None:
    mixer = SuperMix.fast(mask_size=4)
    (found,) = snapshots(mixer, teacher(), natural_images(12), None, seed=(0,), rounds=[3], view=VIEW)
    looks = look(found, teacher(), VIEW, 5)
    for row in range(12):
        classes = sorted(set(found.mix.source_classes[row].tolist()))
        for view in range(5):
            logits = SmoothTeacher()(looks.images[row, view][None])[0].detach()
            torch.testing.assert_close(looks.logits[row, view], logits)
            assert bool(looks.holds[row, view]) == (sorted(logits.topk(len(classes)).indices.tolist()) == classes)
            assert float(looks.probability[row, view]) == pytest.approx(float(logits.softmax(0)[classes].sum()))
    assert 0 < int(looks.holds.sum()) < looks.holds.numel(), "the setting tests too little"
    counted = looks.holds[looks.fresh]
    assert looks.share == pytest.approx(float(counted.double().mean()))
    drawn = (looks.images[:, 0] - looks.images[:, 1]).abs().amax(dim=(1, 2, 3))
    assert int((drawn > 0).sum()) > 6


@pytest.mark.parametrize(
    ("views", "shown", "fresh"),
    [
        (RandomCropFlip(padding=0, flip_probability=0.0), RandomCropFlip(padding=0, flip_probability=0.0), "none"),
        (RandomCropFlip(padding=0), RandomCropFlip(padding=0), "none"),
        (None, RandomCropFlip(padding=0), "all"),
        (RandomResizedCropFlip(), RandomCropFlip(padding=0), "all"),
        (VIEW, VIEW, "some"),
    ],
)
def test_views_that_a_set_was_solved_on_are_not_fresh(views: Any, shown: Any, fresh: str) -> None:
    mixer = SuperMix.fast(mask_size=4, views=views)
    (found,) = snapshots(mixer, teacher(), natural_images(6), None, seed=(0,), rounds=[20], view=shown)
    assert found.mix.num_steps.tolist() == 6 * [20]  # more than the mixer's own limit
    looks = look(found, teacher(), shown, 8)
    share = float(looks.fresh.double().mean())
    assert {"none": share == 0, "all": share == 1, "some": 0 < share < 1}[fresh]
    if fresh == "some":
        again = VIEW.apply(found.mix.images, VIEW.draw(found.keys, torch.full_like(found.keys, 7), (12, 12)))
        seen = (looks.images == again[:, None]).all(dim=(2, 3, 4))
        assert not (seen & looks.fresh).any()
