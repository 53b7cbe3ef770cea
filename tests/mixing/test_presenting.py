"""What the student sees of mixes, and that its labels are of exactly that."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from supermix_pl import FrozenTeacher, MixedBatch, MixUp, SuperMix
from supermix_pl.mixing import FunctionMixer, as_mixer, present
from supermix_pl.mixing.presenting import label, log_targets
from supermix_pl.solver import Outcome
from supermix_pl.solver.criterion import class_membership, margin
from supermix_pl.transforms import RandomCropFlip
from tests.problems import NUM_CLASSES, BlindToMarked, Counting, SmoothTeacher, mark, natural_images

IMAGES = natural_images(8, dtype=torch.float32)
MIXER = SuperMix(mask_size=4, max_steps=3)


def module() -> SmoothTeacher:
    return SmoothTeacher().float()


def mix_of(images: Tensor = IMAGES) -> MixedBatch:
    return MIXER(module(), images, seed=0)


def assert_labelled(mix: MixedBatch, teacher: Any = None) -> None:
    assert mix.teacher_logits is not None
    logits = (teacher or module())(mix.images.float()).detach()
    torch.testing.assert_close(mix.teacher_logits, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("known", [True, False])
def test_what_is_shown_as_it_was_solved_costs_no_pass(known: bool) -> None:
    counting, mix = Counting(module()), mix_of()
    given = mix if known else dataclasses.replace(mix, teacher_logits=None)
    shown = present(given, counting, IMAGES, None, seed=0, exact=known)
    assert counting.forwards == shown.label_forwards == (0 if known else 8)
    assert shown.teacher_forwards == mix.teacher_forwards + shown.label_forwards
    assert shown.images.equal(mix.images)
    assert shown.holds is None
    assert_labelled(shown)


def test_logits_that_are_not_of_exactly_the_mixes_are_asked_for_anew() -> None:
    stale = dataclasses.replace(mix_of(), teacher_logits=torch.zeros(8, NUM_CLASSES))
    assert_labelled(present(stale, module(), IMAGES, None, seed=0, exact=False))


@pytest.mark.parametrize("view", [RandomCropFlip(), lambda mixes: mixes.flip(3), lambda mixes: mixes[..., 1:, 2:]])
def test_a_view_is_labelled_as_it_is_shown(view: Any) -> None:
    counting, mix = Counting(module()), mix_of()
    shown = present(mix, counting, IMAGES, view, seed=0, exact=True)
    assert not shown.images.equal(mix.images)
    assert_labelled(shown)
    assert shown.label_forwards == counting.forwards == 8
    assert shown.masks.equal(mix.masks)
    assert shown.teacher_logits is not None
    holding = margin(shown.teacher_logits, class_membership(mix.source_classes, NUM_CLASSES)) > 0
    assert shown.holds is not None
    assert shown.holds.equal(holding)
    assert 0 < holding.sum() < 8
    assert shown.outcomes.equal(mix.outcomes)  # whether it was solved is another matter


def test_what_is_rounded_for_the_student_is_labelled_as_rounded() -> None:
    images = IMAGES.bfloat16()
    mix = dataclasses.replace(mix_of(), teacher_logits=torch.zeros(8, NUM_CLASSES))
    shown = present(mix, module(), images, None, seed=0, exact=True)
    assert shown.images.dtype == torch.bfloat16
    assert_labelled(shown)


def test_keys_and_looks_name_the_views() -> None:
    mix, view = mix_of(), RandomCropFlip(padding=3)
    keys = torch.arange(8)
    shown = {look: present(mix, None, IMAGES, view, seed=0, exact=True, keys=keys, look=look).images for look in (0, 1)}
    assert not shown[0].equal(shown[1])
    again = present(mix, None, IMAGES, view, seed=9, exact=True, keys=keys, look=1)
    assert again.images.equal(shown[1])
    drawn = [present(mix, None, IMAGES, view, seed=seed, exact=True).images for seed in (0, 0, (0, 1))]
    assert drawn[0].equal(drawn[1])
    assert not drawn[0].equal(drawn[2])


def test_without_a_teacher_there_is_a_view_and_no_label() -> None:
    mix = MixUp(num_classes=NUM_CLASSES)(None, IMAGES, torch.arange(8) % 6, seed=0)
    shown = present(mix, None, IMAGES, RandomCropFlip(), seed=0, exact=False)
    assert (shown.teacher_logits, shown.holds, shown.teacher_forwards) == (None, None, 0)
    assert not shown.images.equal(mix.images)


def test_a_view_that_is_not_finite_carries_the_labels_of_the_sources() -> None:
    blind = FrozenTeacher(BlindToMarked(module()))
    shown = present(mix_of(mark(IMAGES)), blind, IMAGES, lambda mixes: mark(mixes, 1, 4), seed=0, exact=True)
    lost = torch.tensor([row in (1, 4) for row in range(8)])
    assert shown.teacher_logits is not None
    assert shown.holds is not None
    assert shown.non_finite.equal(lost)
    assert not shown.holds[lost].any()
    torch.testing.assert_close(shown.teacher_logits[lost].softmax(dim=1), shown.soft_targets[lost])
    torch.testing.assert_close(shown.teacher_logits[~lost], module()(shown.images[~lost]).detach())


def test_log_targets_give_the_targets_back() -> None:
    targets = torch.tensor([[0.7, 0.0, 0.3], [1.0, 0.0, 0.0]])
    assert log_targets(targets).isfinite().all()
    torch.testing.assert_close(log_targets(targets).softmax(dim=1), targets)


def test_labelling_counts() -> None:
    mix = mix_of()
    logits = torch.zeros(8, NUM_CLASSES)
    labelled = label(mix, logits, viewed=False, forwards=5)
    assert (labelled.teacher_forwards, labelled.label_forwards) == (mix.teacher_forwards + 5, 5)
    assert labelled.holds is None
    again = label(labelled, logits, viewed=True, forwards=3)
    assert (again.teacher_forwards, again.label_forwards) == (mix.teacher_forwards + 8, 8)
    assert again.holds is not None
    assert not again.holds.any()  # a tie is no success


def test_shown_in_chunks() -> None:
    seen: list[int] = []

    class Seeing(SmoothTeacher):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().forward(images)

    seeing = FrozenTeacher(Seeing().float(), fold=False)
    seen.clear()
    mix = present(mix_of(), seeing, IMAGES, RandomCropFlip(), seed=0, exact=True, chunk_size=3)
    assert seen == [3, 3, 2]
    assert_labelled(mix)


# Functions as mixers


def halves(teacher: Any, images: Tensor, labels: Tensor | None, *, seed: Any) -> MixedBatch:
    """The plain average of neighbours, whatever the seed."""
    mix = MixUp(k=2, num_classes=NUM_CLASSES)(None, images, labels, seed=seed)
    weights = torch.full_like(mix.mix_weights, 0.5)
    average = (images + images.roll(-1, 0)) / 2
    return dataclasses.replace(mix, images=average, mix_weights=weights, outcomes=mix.outcomes * 0 + Outcome.CAPPED)


@pytest.mark.parametrize("view", [None, RandomCropFlip(), lambda mixes: mixes.flip(2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_function_mixes_is_shown_and_labelled_as_other_mixes_are(dtype: torch.dtype, view: Any) -> None:
    mixer, labels = FunctionMixer(halves), torch.arange(8) % NUM_CLASSES
    images = IMAGES.to(dtype)
    mix = mixer(module(), images, labels, seed=3, view=view)
    assert mix.images.dtype == dtype
    assert_labelled(mix)
    assert (mix.holds is None) == (view is None)
    plain = (images + images.roll(-1, 0)) / 2
    assert mix.images.equal(plain) == (view is None)
    assert not mixer.needs_teacher
    assert not mixer.streams
    assert "halves" in repr(mixer)


def test_what_mixes_takes_a_seed() -> None:
    class Method:
        def mix(self, teacher: Any, images: Any, labels: Any = None, *, seed: Any) -> None: ...

        def show(self, images: Any) -> None: ...

    def all_taking(*arguments: Any, **named: Any) -> Any: ...

    functions: list[Any] = [halves, Method().mix, all_taking]
    others: list[Any] = [Method().show, SuperMix.fast, SuperMix, SmoothTeacher()]
    for function in functions:
        assert isinstance(as_mixer(function), FunctionMixer)
    for other in others:
        with pytest.raises(TypeError, match="expected mixer to be a SuperMix, MixUp, CutMix or other Mixer, got"):
            as_mixer(other)
