"""What FMix, ResizeMix, SaliencyMix and PuzzleMix have in common: labels, costs, engines, odd batches."""

from typing import Any

import pytest
import torch

from supermix_pl import CutMix, FMix, FrozenTeacher, MixUp, OneOf, PuzzleMix, ResizeMix, SaliencyMix
from supermix_pl.engine import StreamEngine
from supermix_pl.mixing import DirectMixer
from supermix_pl.solver.criterion import class_membership, margin
from tests.problems import NUM_CLASSES, BlindToMarked, Counting, SmoothTeacher, mark, natural_images

LABELS = torch.arange(8) % NUM_CLASSES
PAIRS: list[DirectMixer] = [FMix(), ResizeMix(), SaliencyMix(), PuzzleMix(grids=(3,))]
ALL = OneOf([*PAIRS, MixUp(), CutMix()])
each_mixer = pytest.mark.parametrize("mixer", [*PAIRS, ALL], ids=lambda mixer: type(mixer).__name__)


@each_mixer
def test_labels_belong_to_what_is_shown_and_every_pass_is_counted(mixer: DirectMixer) -> None:
    images, counting = natural_images(8), Counting(SmoothTeacher())
    mix = mixer(FrozenTeacher(counting), images, LABELS, seed=0)
    logits = SmoothTeacher()(mix.images).detach()
    assert mix.source_indices[:, 0].tolist() == list(range(8))
    assert mix.source_classes.equal(LABELS[mix.source_indices])
    torch.testing.assert_close(mix.masks.sum(dim=1), torch.ones_like(mix.masks[:, 0]))
    torch.testing.assert_close(mix.mix_weights, mix.masks.mean(dim=(2, 3)))
    weights = torch.zeros_like(mix.soft_targets).scatter_add(1, mix.source_classes, mix.mix_weights)
    torch.testing.assert_close(mix.soft_targets, weights)
    torch.testing.assert_close(mix.teacher_logits, logits)
    assert mix.solved.equal(margin(logits, class_membership(mix.source_classes, NUM_CLASSES)) > 0)
    assert (mix.teacher_forwards, mix.teacher_backwards) == (counting.forwards, counting.backwards)
    assert (mix.teacher_backwards > 0) == mixer.needs_teacher
    again = mixer(FrozenTeacher(SmoothTeacher()), images, LABELS, seed=0)
    assert mix.images.equal(again.images)
    assert not mix.images.equal(mixer(FrozenTeacher(SmoothTeacher()), images, LABELS, seed=1).images)


@each_mixer
@pytest.mark.usefixtures("unchecked")
def test_the_stream_mixes_earlier_images_and_counts_the_passes(mixer: DirectMixer) -> None:
    engine, counting = StreamEngine(default_transform=None), Counting(SmoothTeacher())
    teacher, passed = FrozenTeacher(counting), 0
    for step in range(3):
        mix = engine.mix(mixer, teacher, natural_images(8, seed=step), LABELS, seed=step)
        passed += mix.teacher_forwards
        assert mix.images.shape == (8, 3, 12, 12)
        torch.testing.assert_close(mix.teacher_logits, SmoothTeacher()(mix.images).detach())
        torch.testing.assert_close(mix.mix_weights, mix.masks.mean(dim=(2, 3)))
    assert passed == counting.forwards
    assert (counting.backwards > 0) == mixer.needs_teacher


@each_mixer
@pytest.mark.parametrize("size", [(12, 12), (7, 5), (1, 1)])
@pytest.mark.filterwarnings("ignore:a batch of 1 images is smaller than k=2")
def test_any_batch_works(mixer: DirectMixer, size: tuple[int, int]) -> None:
    for count in (1, 2, 5):
        mix = mixer(SmoothTeacher(), natural_images(count, size), seed=3)
        assert mix.images.isfinite().all()
        assert mix.masks.shape == (count, min(2, count), *size)
        if count == 1:
            torch.testing.assert_close(mix.images, natural_images(1, size))


@each_mixer
def test_classes_without_labels_are_the_teachers_and_without_either_there_is_an_error(mixer: DirectMixer) -> None:
    images = natural_images(8)
    mix = mixer(SmoothTeacher(), images, seed=0)
    assert mix.source_classes.equal(SmoothTeacher()(images).argmax(dim=1)[mix.source_indices])
    if mixer.needs_teacher:
        with pytest.raises(ValueError, match=r"expected a teacher, whose gradients .* asks for, got None"):
            mixer(None, images, LABELS, seed=0, num_classes=NUM_CLASSES)
    else:
        assert mixer(None, images, LABELS, seed=0, num_classes=9).soft_targets.shape == (8, 9)
    assert mixer.takes_labels != mixer.needs_teacher


def test_a_source_of_which_the_teacher_sees_nothing_is_mixed_all_the_same() -> None:
    images = mark(natural_images(8), 3)
    mix = PuzzleMix(grids=(3,))(BlindToMarked(SmoothTeacher()), images, LABELS, seed=0)
    assert mix.images.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        (FMix, {"alpha": 0}, "expected alpha > 0, got 0"),
        (FMix, {"decay_power": 0}, "expected decay_power > 0, got 0"),
        (ResizeMix, {"scale": (0.5, 0.1)}, r"expected scale as \(least, largest\) with 0 < least <= largest"),
        (ResizeMix, {"scale": (0.5, 1.5)}, r"expected scale in \(0, 1\], as shares of the image's sides"),
        (SaliencyMix, {"alpha": -1}, "expected alpha > 0, got -1"),
        (PuzzleMix, {"alpha": 0}, "expected alpha > 0, got 0"),
        (PuzzleMix, {"beta": -1}, "expected beta >= 0, got -1"),
        (PuzzleMix, {"xi": -1}, "expected xi >= 0, got -1"),
        (PuzzleMix, {"levels": 0}, "expected levels to be an integer >= 1, got 0"),
        (PuzzleMix, {"grids": ()}, "expected grids with at least one number of regions along a side, got none"),
        (PuzzleMix, {"grids": (4, 0)}, "expected grids to be an integer >= 1, got 0"),
        (PuzzleMix, {"pairing": "next"}, "expected pairing to be one of shift, random, distinct, got 'next'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be(kind: Any, arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        kind(**arguments)
