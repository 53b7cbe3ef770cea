"""MixUp and CutMix: weights, visible areas, boxes, with a teacher and without one."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supermix_pl import CutMix, FrozenTeacher, MixedBatch, MixUp, OneOf, SuperMix
from supermix_pl.mixing import BlindMixer
from supermix_pl.mixing.mixer import Mixer
from supermix_pl.mixing.sampling import Pairing
from supermix_pl.solver import Outcome
from supermix_pl.solver.criterion import class_membership, margin
from tests.problems import (
    NUM_CLASSES,
    BlindToMarked,
    Counting,
    SmoothTeacher,
    mark,
    natural_images,
    repeatable,
)

LABELS = torch.arange(8) % NUM_CLASSES


@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_chunks_change_nothing_and_are_not_in_the_name(kind: type[BlindMixer]) -> None:
    images = natural_images(8)
    whole, parts = (
        kind(chunk_size=size)(FrozenTeacher(SmoothTeacher()), images, seed=0)  # pyright: ignore[reportCallIssue]
        for size in (None, 3)
    )
    assert parts.images.equal(whole.images)
    torch.testing.assert_close(parts.teacher_logits, whole.teacher_logits)
    torch.testing.assert_close(parts.natural_logits, whole.natural_logits)
    assert repr(kind(chunk_size=3)) == repr(kind())
    with pytest.raises(ValueError, match="expected chunk_size to be an integer >= 1, got 0"):
        kind(chunk_size=0)


each_mixer = pytest.mark.parametrize("mixer", [MixUp(k=2), MixUp(k=3), CutMix(k=2), CutMix(k=3)], ids=repr)


def assert_consistent(mix: MixedBatch, images: Tensor) -> None:
    assert mix.source_indices[:, 0].tolist() == list(range(len(images)))
    torch.testing.assert_close(mix.images, torch.einsum("bkchw,bkhw->bchw", images[mix.source_indices], mix.masks))
    torch.testing.assert_close(mix.masks.sum(dim=1), torch.ones_like(mix.masks[:, 0]))
    torch.testing.assert_close(mix.mix_weights, mix.masks.mean(dim=(2, 3)))
    weights = torch.zeros_like(mix.soft_targets).scatter_add(1, mix.source_classes, mix.mix_weights)
    torch.testing.assert_close(mix.soft_targets, weights)
    torch.testing.assert_close(mix.soft_targets.sum(dim=1), torch.ones_like(mix.soft_targets[:, 0]))
    assert mix.num_steps.eq(0).all()
    assert mix.teacher_backwards == 0


@pytest.mark.parametrize("pairing", ["shift", "random", "distinct"])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_labelled_by_a_teacher(kind: type[BlindMixer], k: int, pairing: str) -> None:
    images, counting = natural_images(8, (10, 14)), Counting(SmoothTeacher())
    mix = kind(k=k, pairing=pairing)(counting, images, seed=0)  # pyright: ignore[reportCallIssue, reportArgumentType]
    logits = SmoothTeacher()(mix.images).detach()
    assert_consistent(mix, images)
    assert mix.source_classes.equal(SmoothTeacher()(images).argmax(dim=1)[mix.source_indices])
    assert mix.teacher_logits is not None
    torch.testing.assert_close(mix.teacher_logits, logits)
    assert mix.solved.equal(margin(logits, class_membership(mix.source_classes, NUM_CLASSES)) > 0)
    assert mix.teacher_forwards == counting.forwards == 16
    assert counting.backwards == 0
    if k == 2 and pairing == "shift":
        assert 0 < mix.solved.sum() < 8
    if k == 1:
        assert mix.solved.all()


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_blind(kind: type[BlindMixer], k: int) -> None:
    images = natural_images(8, dtype=torch.float32)
    mix = kind(k=k, num_classes=7)(None, images, LABELS, seed=0)  # pyright: ignore[reportCallIssue]
    assert_consistent(mix, images)
    assert mix.soft_targets.shape == (8, 7)
    assert mix.source_classes.equal(LABELS[mix.source_indices])
    assert mix.teacher_logits is None
    assert mix.natural_logits is None
    assert mix.teacher_forwards == 0
    assert not mix.solved.any()


@each_mixer
def test_with_labels_the_teacher_sees_the_mixes_only(mixer: BlindMixer) -> None:
    counting = Counting(SmoothTeacher())
    teacher = FrozenTeacher(counting)
    first, second = (mixer(teacher, natural_images(8), LABELS, seed=0) for _ in range(2))
    assert (first.teacher_forwards, second.teacher_forwards) == (9, 8)  # n has to be asked for once
    assert counting.forwards == 17
    assert first.source_classes.equal(LABELS[first.source_indices])
    assert first.natural_logits is None


@each_mixer
def test_n_of_the_call_goes_before_that_of_the_mixer_and_the_teachers_before_both(mixer: BlindMixer) -> None:
    images, mixer = natural_images(8), dataclasses.replace(mixer, num_classes=9)
    assert mixer(None, images, LABELS, seed=0).soft_targets.shape[1] == 9
    assert mixer(None, images, LABELS, seed=0, num_classes=11).soft_targets.shape[1] == 11
    assert mixer(SmoothTeacher(), images, LABELS, seed=0).soft_targets.shape[1] == NUM_CLASSES


@pytest.mark.parametrize("mixer", [MixUp(alpha=1e6), CutMix(alpha=1e6)])  # equal shares
def test_mixes_that_the_teacher_cannot_see_have_the_labels_of_their_sources(mixer: BlindMixer) -> None:
    images = mark(natural_images(8), 3)
    mix = mixer(BlindToMarked(SmoothTeacher()), images, LABELS, seed=0)
    lost = mix.outcomes == Outcome.NON_FINITE
    assert lost[3] or lost[2]
    assert lost.sum() <= 2
    assert mix.teacher_logits is not None
    torch.testing.assert_close(mix.teacher_logits[lost].softmax(dim=1), mix.soft_targets[lost])
    torch.testing.assert_close(mix.teacher_logits[~lost], SmoothTeacher()(mix.images[~lost]).detach())
    assert_consistent(mix, images)


@pytest.mark.parametrize("pairing", ["shift", "random", "distinct"])
def test_an_image_without_label_and_finite_logits_is_no_source(pairing: Pairing) -> None:
    images = mark(natural_images(8), 3, 6)
    mix = MixUp(pairing=pairing)(BlindToMarked(SmoothTeacher()), images, seed=0)
    assert mix.left_out == 2
    assert not torch.isin(mix.source_indices, torch.tensor([3, 6])).any()
    known = torch.tensor([0, 1, 2, 4, 5, 7])
    assert mix.source_indices[known, 0].equal(known)
    assert mix.source_classes.equal(SmoothTeacher()(images).argmax(dim=1)[mix.source_indices])


@pytest.mark.parametrize("mixer", [MixUp(alpha=1e6), CutMix(alpha=1e6)])
def test_views_that_the_teacher_cannot_see_have_the_labels_of_their_sources(mixer: BlindMixer) -> None:
    mix = mixer(BlindToMarked(SmoothTeacher()), mark(natural_images(8)), seed=0, view=lambda mixes: mark(mixes, 1, 6))
    assert (mix.outcomes == Outcome.NON_FINITE).nonzero().flatten().tolist() == [1, 6]
    assert mix.teacher_logits is not None
    assert mix.holds is not None
    torch.testing.assert_close(mix.teacher_logits[[1, 6]].softmax(dim=1), mix.soft_targets[[1, 6]])
    assert not mix.holds[[1, 6]].any()
    assert not mix.solved[[1, 6]].any()


@each_mixer
def test_is_a_mixer(mixer: BlindMixer) -> None:
    assert isinstance(mixer, Mixer)


def test_k_shrinks_to_a_small_batch() -> None:
    for mixer in (MixUp(k=5), CutMix(k=5)):
        with pytest.warns(UserWarning, match="a batch of 3 images is smaller than k=5"):
            assert mixer(SmoothTeacher(), natural_images(3), seed=0).mix_weights.shape == (3, 3)


def test_mixup_masks_are_the_weights() -> None:
    images = natural_images(8)
    mix = MixUp(k=3, alpha=0.5)(SmoothTeacher(), images, seed=0)
    assert mix.masks.equal(mix.mix_weights[:, :, None, None].expand(8, 3, 12, 12))
    assert mix.mix_weights.std(dim=0).gt(0.05).all()


def intervals_of(marked: np.ndarray) -> tuple[int, int]:
    """Start and length of the one run of True values."""
    places = np.flatnonzero(marked)
    assert np.array_equal(places, np.arange(places[0], places[0] + len(places)))
    return int(places[0]), len(places)


def boxes(weights: np.ndarray, size: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """CutMix's masks for these weights, and those that they really have."""

    class Given(CutMix):
        def draw_weights(self, rng: np.random.Generator, count: int, k: int) -> np.ndarray:
            return weights

    return Given().draw_masks(np.random.default_rng(seed), *weights.shape, size)  # pyright: ignore


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    weight=st.floats(0, 1, allow_subnormal=False),
    seed=st.integers(0, 9),
)
@repeatable
def test_a_cutmix_box_has_the_images_shape_its_sources_share_and_lies_inside(
    height: int, width: int, weight: float, seed: int
) -> None:
    weights = np.array([[1 - weight, weight]])
    masks, visible = boxes(weights, (height, width), seed)
    assert set(np.unique(masks)) <= {0.0, 1.0}
    np.testing.assert_allclose(masks.sum(axis=1), 1.0)
    box = masks[0, 1] > 0
    rows, columns = (round(np.sqrt(weight) * side) for side in (height, width))  # half to even, as numpy's
    assert box.sum() == rows * columns
    np.testing.assert_allclose(visible[0], [1 - box.mean(), box.mean()])
    if box.any():
        assert intervals_of(box.any(axis=1))[1] == rows
        assert intervals_of(box.any(axis=0))[1] == columns
        assert box[box.any(axis=1)][:, box.any(axis=0)].all()


def test_cutmix_boxes_reach_every_place_evenly() -> None:
    weights = np.tile([[0.75, 0.25]], (4000, 1))
    masks, _ = boxes(weights, (6, 6))
    places = [(intervals_of(box.any(axis=1))[0], intervals_of(box.any(axis=0))[0]) for box in masks[:, 1] > 0]
    counts = np.unique(places, axis=0, return_counts=True)[1]
    assert len(counts) == 16  # a box of 3 x 3 has 4 x 4 places
    assert abs(counts - 250).max() < 80  # 5 standard deviations


def test_later_cutmix_boxes_cover_earlier_ones() -> None:
    weights = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.5, 0.25, 0.25]])
    masks, visible = boxes(weights, (8, 8), seed=3)
    np.testing.assert_allclose(visible[:2], [[0, 0, 1], [0, 1, 0]])
    last = masks[2, 2] > 0
    assert last.sum() == 16  # the last box is never covered
    assert masks[2, 1].sum() <= 16
    np.testing.assert_allclose(visible, masks.mean(axis=(2, 3)))


def test_cutmix_shares_follow_the_drawn_weights() -> None:
    images = natural_images(64, (32, 32), dtype=torch.float32)
    mix = CutMix(alpha=1.0, num_classes=2)(None, images, torch.zeros(64, dtype=torch.long), seed=0)
    drawn = MixUp(alpha=1.0, num_classes=2)(None, images, torch.zeros(64, dtype=torch.long), seed=0)
    assert (mix.mix_weights - drawn.mix_weights).abs().max() < 0.04  # pixels are whole


# One of several


def is_cut(mix: MixedBatch) -> Tensor:
    """Which mixes are pasted: their masks are 0 or 1 everywhere."""
    return (mix.masks * (1 - mix.masks)).flatten(1).eq(0).all(dim=1)


@pytest.mark.parametrize(("weights", "share"), [(None, 0.5), ([0.5, 0.5], 0.5), ([3, 1], 0.25), ([1, 0], 0.0)])
@pytest.mark.parametrize("k", [2, 3])
def test_each_mix_is_made_by_one_of_several(k: int, weights: list[float] | None, share: float) -> None:
    mixer = OneOf([MixUp(k=k), CutMix(k=k)], weights=weights, num_classes=NUM_CLASSES)
    images, labels = natural_images(400, (6, 6), dtype=torch.float32), torch.arange(400) % NUM_CLASSES
    mix = mixer(None, images, labels, seed=0)
    assert_consistent(mix, images)
    assert mix.mix_weights.shape == (400, k)
    found = is_cut(mix).double().mean().item()
    assert found == share if share in (0, 1) else abs(found - share) < 0.11
    uniform = (mix.masks.flatten(2) == mix.masks.flatten(2)[..., :1]).all(dim=2).all(dim=1)
    assert (uniform | is_cut(mix)).all()


def test_the_mixers_own_alpha_counts() -> None:
    images, labels = natural_images(64, (6, 6), dtype=torch.float32), torch.arange(64) % NUM_CLASSES
    flat, steep = (
        OneOf([MixUp(alpha=alpha)], num_classes=NUM_CLASSES)(None, images, labels, seed=0).mix_weights
        for alpha in (1e4, 0.01)
    )
    assert (flat - 0.5).abs().max() < 0.1
    assert (steep - 0.5).abs().mean() > 0.4


def test_one_of_one_is_that_one() -> None:
    images, teacher = natural_images(8), FrozenTeacher(SmoothTeacher())
    for mixer in (MixUp(k=3, pairing="random"), CutMix(k=3, pairing="random")):
        alone = mixer(teacher, images, seed=4)
        drawn = OneOf([mixer], pairing="random")(teacher, images, seed=4)
        assert drawn.source_indices.equal(alone.source_indices)
        assert drawn.images.shape == alone.images.shape


def test_one_of_names_all_that_decides_its_mixes() -> None:
    text = repr(OneOf([MixUp(alpha=0.2), CutMix()], weights=[1, 2], pairing="random", chunk_size=3))
    assert all(part in text for part in (repr(MixUp(alpha=0.2)), repr(CutMix()), "(1, 2)", "random"))
    assert "chunk_size" not in text


@pytest.mark.parametrize(
    ("arguments", "kind", "expected"),
    [
        ({"mixers": []}, ValueError, "expected at least one mixer in mixers, got none; give for instance"),
        ({"mixers": [MixUp(k=2), CutMix(k=3)]}, ValueError, r"expected mixers of one k, got \[2, 3\]"),
        ({"mixers": [MixUp(), SuperMix()]}, TypeError, "expected mixers that make their mixes at once"),
        ({"mixers": [MixUp(), CutMix()], "weights": [1.0]}, ValueError, r"expected a weight for each of 2 mixers"),
        ({"mixers": [MixUp(), CutMix()], "weights": [0, 0]}, ValueError, r"not all 0, got \[0, 0\]"),
        ({"mixers": [MixUp(), CutMix()], "weights": [-1, 2]}, ValueError, "expected weights >= 0, got -1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_one_of_what_cannot_be(arguments: dict[str, Any], kind: type[Exception], expected: str) -> None:
    with pytest.raises(kind, match=expected):
        OneOf(**arguments)
