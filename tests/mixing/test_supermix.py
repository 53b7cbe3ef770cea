"""SuperMix: costs, unsolved sets, odd batches, classes, update rules."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.mixing.mixer import Mixer
from supermix_pl.solver import SGD, Outcome
from supermix_pl.solver.criterion import class_membership, margin
from tests.problems import NUM_CLASSES, BlindToMarked, Counting, SmoothTeacher, mark, natural_images

QUICK: dict[str, Any] = {"mask_size": 4, "max_steps": 5}
TEACHER = SmoothTeacher()


def assert_consistent(mix: MixedBatch, images: Tensor, teacher: nn.Module = TEACHER) -> None:
    """What holds of every mixed batch, however it was made."""
    assert mix.source_indices[:, 0].tolist() == list(range(len(images)))
    torch.testing.assert_close(mix.images, torch.einsum("bkchw,bkhw->bchw", images[mix.source_indices], mix.masks))
    assert ((mix.masks >= 0) & (mix.masks <= 1)).all()
    torch.testing.assert_close(mix.masks.sum(dim=1), torch.ones_like(mix.masks[:, 0]))
    torch.testing.assert_close(mix.mix_weights.sum(dim=1), torch.ones_like(mix.mix_weights[:, 0]))
    torch.testing.assert_close(mix.soft_targets.sum(dim=1), torch.ones_like(mix.soft_targets[:, 0]))
    weights = torch.zeros_like(mix.soft_targets).scatter_add(1, mix.source_classes, mix.mix_weights)
    torch.testing.assert_close(mix.soft_targets, weights)
    assert mix.teacher_logits is not None
    torch.testing.assert_close(mix.teacher_logits, teacher(mix.images).detach())


@pytest.mark.parametrize("k", [1, 2, 3, 4, 8])
def test_a_mixed_batch_holds_together(k: int) -> None:
    images = natural_images(8)
    mix = SuperMix(k=k, **QUICK)(TEACHER, images, seed=0)
    assert mix.masks.shape == (8, k, 12, 12)
    assert len(mix) == 8
    assert_consistent(mix, images)
    solved = margin(TEACHER(mix.images), class_membership(mix.source_classes, NUM_CLASSES)) > 0
    assert mix.solved.equal(solved)
    torch.testing.assert_close(mix.natural_logits, TEACHER(images).detach())


def test_is_a_mixer() -> None:
    assert isinstance(SuperMix(), Mixer)


# Costs


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"k": 1},
        {"k": 4},
        {"init": "saliency"},
        {"classes": "labels"},
        {"classes": "labels", "init": "saliency"},
        {"min_steps": 0},
        {"init": "contrast", "min_steps": 0},
        {"objective": "margin"},
        {"update_rule": "sgd"},
        {"on_unsolved": "source", "max_steps": 2},
        {"on_unsolved": "mixup", "max_steps": 2},
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_passes_are_counted_exactly(arguments: dict[str, Any], known: bool) -> None:
    counting = Counting(TEACHER)
    teacher = FrozenTeacher(counting)
    images, labels = natural_images(9), torch.arange(9) % NUM_CLASSES
    if known:  # the teacher has told its n before
        teacher(images[:1])
        counting.forwards = 0
    mix = SuperMix(**{**QUICK, **arguments})(teacher, images, labels, seed=0)
    assert mix.teacher_forwards == counting.forwards
    assert mix.teacher_backwards == counting.backwards
    from_labels, saliency = "classes" in arguments, "init" in arguments
    natural = 9 if saliency or not from_labels else 0
    asked_for_n = int(from_labels and not known)
    shown_again = int((mix.outcomes == Outcome.CAPPED).sum()) if arguments.get("on_unsolved") == "mixup" else 0
    assert mix.teacher_forwards == natural + asked_for_n + int((mix.num_steps + 1).sum()) + shown_again
    steps = mix.num_steps.sum() + (9 if saliency else 0)
    assert steps <= mix.teacher_backwards <= steps + 9
    assert (mix.natural_logits is None) == (natural == 0)


# Outcomes


def test_keep_gives_the_best_mix_so_far() -> None:
    images = natural_images(8)
    mix = SuperMix(mask_size=4, max_steps=2)(TEACHER, images, seed=0)
    capped = mix.outcomes == Outcome.CAPPED
    assert 0 < capped.sum() < 8
    assert mix.masks[capped, 0].std(dim=(1, 2)).gt(0.01).all()  # no plain average, no source
    assert mix.num_steps[capped].eq(2).all()


def test_source_puts_the_natural_image_back() -> None:
    images = natural_images(8)
    kept = SuperMix(mask_size=4, max_steps=2)(TEACHER, images, seed=0)
    mix = SuperMix(mask_size=4, max_steps=2, on_unsolved="source")(TEACHER, images, seed=0)
    capped = mix.outcomes == Outcome.CAPPED
    assert mix.outcomes.equal(kept.outcomes)
    assert mix.images[capped].equal(images[capped])
    assert mix.masks[capped, 0].eq(1).all()
    assert mix.masks[capped, 1:].eq(0).all()
    assert mix.mix_weights[capped].tolist() == [[1.0, 0.0]] * int(capped.sum())
    assert mix.soft_targets[capped].argmax(dim=1).equal(mix.source_classes[capped, 0])
    assert mix.soft_targets[capped].amax(dim=1).eq(1).all()
    assert_consistent(mix, images)
    for name in ("images", "masks", "mix_weights", "soft_targets"):
        assert getattr(mix, name)[~capped].equal(getattr(kept, name)[~capped])
    assert (mix.teacher_forwards, mix.teacher_backwards) == (kept.teacher_forwards, kept.teacher_backwards)


def test_source_with_labels_costs_no_pass_and_is_certain() -> None:
    images, labels = natural_images(8), torch.arange(8) % NUM_CLASSES
    mixer = SuperMix(mask_size=4, max_steps=1, on_unsolved="source", classes="labels")
    mix = mixer(TEACHER, images, labels, seed=0)
    capped = ~mix.solved
    assert capped.any()
    assert mix.teacher_logits is not None
    assert mix.teacher_logits[capped].softmax(dim=1)[torch.arange(int(capped.sum())), labels[capped]].eq(1).all()


def test_mixup_averages_the_sources_with_their_weights() -> None:
    images = natural_images(8)
    kept = SuperMix(mask_size=4, max_steps=2)(TEACHER, images, seed=0)
    mix = SuperMix(mask_size=4, max_steps=2, on_unsolved="mixup")(TEACHER, images, seed=0)
    capped = kept.outcomes == Outcome.CAPPED
    average = torch.einsum("bkchw,bk->bchw", images[mix.source_indices], mix.mix_weights)
    torch.testing.assert_close(mix.images[capped], average[capped])
    assert mix.images[~capped].equal(kept.images[~capped])
    assert mix.mix_weights.equal(kept.mix_weights)
    assert mix.teacher_forwards == kept.teacher_forwards + capped.sum()
    assert mix.teacher_backwards == kept.teacher_backwards
    assert_consistent(mix, images)


@pytest.mark.parametrize("on_unsolved", ["keep", "source", "mixup"])
def test_what_the_teacher_cannot_see_gets_its_source_back(on_unsolved: Any) -> None:
    images = mark(natural_images(8), 3)
    teacher = BlindToMarked(TEACHER)
    labels = torch.full((8,), NUM_CLASSES - 1)
    mix = SuperMix(**QUICK, on_unsolved=on_unsolved)(teacher, images, labels, seed=0)
    lost = mix.outcomes == Outcome.NON_FINITE
    assert lost.tolist() == [row in (2, 3) for row in range(8)]
    assert mix.images[lost].equal(images[lost])
    assert mix.mix_weights[lost].tolist() == [[1.0, 0.0]] * 2
    assert mix.num_steps[lost].eq(0).all()
    assert mix.teacher_logits is not None
    assert mix.teacher_logits.isfinite().all()
    torch.testing.assert_close(mix.teacher_logits[2], TEACHER(images)[2].detach())  # its natural image can be seen
    certain = mix.teacher_logits[3].softmax(dim=0)  # that of row 3 cannot
    assert certain[mix.source_classes[3, 0]] == 1
    assert mix.masks.isfinite().all()
    assert mix.soft_targets[lost].amax(dim=1).eq(1).all()
    assert mix.source_classes[3, 0] == mix.source_classes[2, 1] == labels[3]  # what the teacher cannot tell
    assert mix.left_out == 0
    seen = [0, 1, 2, 4, 5, 6, 7]
    assert mix.source_classes[seen, 0].equal(TEACHER(images).argmax(dim=1)[seen])


@pytest.mark.parametrize("labels", [None, torch.full((6,), -1), torch.full((6,), NUM_CLASSES)])
def test_an_image_without_label_and_finite_logits_is_no_source(labels: Tensor | None) -> None:
    images = mark(natural_images(6), 0, 4)
    mix = SuperMix(**QUICK)(BlindToMarked(TEACHER), images, labels, seed=0)
    assert mix.left_out == 2
    assert not torch.isin(mix.source_indices, torch.tensor([0, 4])).any()
    assert mix.source_indices[[1, 2, 3, 5]].tolist() == [[1, 2], [2, 3], [3, 5], [5, 1]]
    assert not mix.non_finite.any()


def test_k_shrinks_to_the_images_that_can_be_sources() -> None:
    images = mark(natural_images(4), 0, 1, 2)
    with pytest.warns(UserWarning, match="a batch of 1 images is smaller than k=2: its sets have 1 sources"):
        mix = SuperMix(**QUICK)(BlindToMarked(TEACHER), images, seed=0)
    assert mix.source_indices.tolist() == [[3]] * 4
    assert mix.left_out == 3


def test_mixup_that_the_teacher_cannot_see_gets_its_source_back() -> None:
    images = natural_images(6)
    mixer = SuperMix(k=2, mask_size=4, max_steps=1, on_unsolved="mixup")
    plain = mixer(TEACHER, images, seed=0)
    averages = plain.images[~plain.solved]
    assert 0 < len(averages) < 6

    class BlindToAverages(SmoothTeacher):
        def forward(self, images: Tensor) -> Tensor:
            distances = torch.cdist(images.detach().flatten(1), averages.flatten(1)).amin(dim=1)
            return super().forward(images).masked_fill((distances < 1e-9)[:, None], torch.nan)

    mix = mixer(BlindToAverages(), images, seed=0)
    assert mix.outcomes[~plain.solved].eq(Outcome.NON_FINITE).all()
    assert mix.images[~plain.solved].equal(images[~plain.solved])
    assert mix.teacher_logits is not None
    torch.testing.assert_close(mix.teacher_logits[~plain.solved], TEACHER(images)[~plain.solved].detach())


# Batches of all sizes


def test_one_image_is_mixed_with_nothing() -> None:
    images = natural_images(1)
    with pytest.warns(UserWarning, match="a batch of 1 images is smaller than k=3"):
        mix = SuperMix(k=3, **QUICK)(TEACHER, images, seed=0)
    assert mix.source_indices.tolist() == [[0]]
    assert mix.images.equal(images)
    assert mix.mix_weights.tolist() == [[1.0]]
    assert mix.solved.all()


@pytest.mark.parametrize("count", [2, 3])
def test_k_shrinks_to_a_small_batch(count: int) -> None:
    images = natural_images(count)
    with pytest.warns(UserWarning, match=f"its sets have {count} sources"):
        mix = SuperMix(k=4, **QUICK)(TEACHER, images, seed=0)
    assert mix.masks.shape == (count, count, 12, 12)
    assert_consistent(mix, images)


@pytest.mark.parametrize("count", [3, 5, 7])
def test_odd_batches(count: int) -> None:
    images = natural_images(count)
    assert_consistent(SuperMix(k=2, **QUICK)(TEACHER, images, seed=0), images)


@pytest.mark.parametrize("pairing", ["shift", "random", "distinct"])
def test_a_batch_of_one_class_is_solved_for_that_class(pairing: Any) -> None:
    images = natural_images(60)
    classes = TEACHER(images).argmax(dim=1)
    images = images[classes == classes.mode().values][:6]
    mix = SuperMix(k=3, pairing=pairing, **QUICK)(TEACHER, images, seed=0)
    assert mix.solved.all()
    assert mix.soft_targets.amax(dim=1).allclose(torch.ones(6).double())
    assert_consistent(mix, images)


def test_every_class_in_the_set() -> None:
    images, labels = natural_images(NUM_CLASSES), torch.arange(NUM_CLASSES)
    mix = SuperMix(k=NUM_CLASSES, classes="labels", **QUICK)(TEACHER, images, labels, seed=0)
    assert mix.solved.all()
    assert mix.num_steps.eq(1).all()


@pytest.mark.parametrize("size", [(4, 4), (5, 9), (31, 8)])
def test_any_image_not_smaller_than_the_masks(size: tuple[int, int]) -> None:
    images = natural_images(4, size)
    assert_consistent(SuperMix(**QUICK)(TEACHER, images, seed=0), images)


@pytest.mark.parametrize(("mask_size", "grid"), [(13, (12, 13)), ((12, 16), (12, 15)), ((20, 4), (12, 4))])
@pytest.mark.parametrize("init", ["zeros", "saliency", "contrast"])
def test_a_grid_is_not_finer_than_the_images(mask_size: Any, grid: tuple[int, int], init: Any) -> None:
    images = natural_images(4, (12, 15))
    mix, expected = (
        SuperMix(mask_size=size, max_steps=3, init=init)(TEACHER, images, seed=0) for size in (mask_size, grid)
    )
    assert mix.images.equal(expected.images)
    assert_consistent(mix, images)


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels(channels: int) -> None:
    teacher, images = SmoothTeacher(channels=channels), natural_images(4, channels=channels)
    assert_consistent(SuperMix(**QUICK)(teacher, images, seed=0), images, teacher)


# Classes and rules


def test_classes_come_from_the_teacher_even_when_labels_are_given() -> None:
    images, labels = natural_images(6), torch.zeros(6, dtype=torch.long)
    mix = SuperMix(**QUICK)(TEACHER, images, labels, seed=0)
    assert mix.source_classes.equal(TEACHER(images).argmax(dim=1)[mix.source_indices])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_classes_from_labels(dtype: torch.dtype) -> None:
    images, labels = natural_images(6), (torch.arange(6) % 4).to(dtype)
    mix = SuperMix(**QUICK, classes="labels")(TEACHER, images, labels, seed=0)
    assert mix.source_classes.equal(labels.long()[mix.source_indices])
    assert mix.natural_logits is None


def test_a_rule_object_is_used_as_it_is() -> None:
    images = natural_images(6)
    named = SuperMix(**QUICK, update_rule="sgd")(TEACHER, images, seed=0)
    given = SuperMix(**QUICK, update_rule=SGD())(TEACHER, images, seed=0)
    faster = SuperMix(**QUICK, update_rule=SGD(learning_rate=20.0, roughness_weight=0.0))(TEACHER, images, seed=0)
    assert given.masks.equal(named.masks)
    assert (faster.masks - 0.5).abs().max() > 5 * (named.masks - 0.5).abs().max()


def test_the_margin_objective_pulls_on_what_decides() -> None:
    images = natural_images(32)
    paper, pulled = (
        SuperMix(mask_size=4, max_steps=8, max_logit_step=2.0, objective=name)(TEACHER, images, seed=0)  # pyright: ignore
        for name in ("paper", "margin")
    )
    assert pulled.solved.sum() > paper.solved.sum()


def test_sparser_with_lambda_s() -> None:
    images = natural_images(16)
    soft, sparse = (
        SuperMix(mask_size=4, max_steps=6, min_steps=6, max_logit_step=1.0, lambda_s=lambda_s)(TEACHER, images, seed=0)
        for lambda_s in (0.0, 100.0)
    )
    assert (sparse.masks * (1 - sparse.masks)).mean() < (soft.masks * (1 - soft.masks)).mean()


def test_settings_are_frozen_keyword_only_and_compare_by_value() -> None:
    mixer = SuperMix(k=3)
    assert mixer == SuperMix(k=3)
    assert mixer != SuperMix(k=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        mixer.k = 2  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        SuperMix(3)  # pyright: ignore[reportCallIssue]


def test_defaults_are_the_papers_for_cifar() -> None:
    mixer = SuperMix()
    assert (mixer.k, mixer.alpha, mixer.lambda_s, mixer.sigma, mixer.mask_grid) == (2, 3.0, 25.0, 1.0, (8, 8))
    assert (mixer.min_steps, mixer.max_steps, mixer.max_logit_step) == (1, 50, None)
    assert (mixer.pairing, mixer.init, mixer.update_rule, mixer.objective) == ("shift", "zeros", "newton_sp", "paper")
    assert (mixer.classes, mixer.on_unsolved) == ("teacher", "keep")
