"""The losses of both tasks by hand, in one forward and in two; the best epoch."""

from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from supermix_pl import FrozenTeacher, MixedBatch, MixUp, SuperMixCallback
from supermix_pl.experiments.tasks import Classification, Distillation
from supermix_pl.experiments.tasks.schedules import constant
from tests.experiments.mixes_toys import SIZE, teacher_of

NATURAL = 4


def student() -> nn.Module:
    """Its batch norm takes on the statistics of the last forward alone."""
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(3, momentum=1.0), nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 3))


def task_of(kind: type[Classification] = Classification, **options: Any) -> Classification:
    task = kind(student(), num_classes=3, optimizer=partial(torch.optim.SGD, lr=0.1), scheduler=constant, **options)
    task.log = lambda *arguments, **settings: None
    return task


def mixing_of(teacher: FrozenTeacher, images: Tensor, *, natural_logits: bool) -> tuple[SuperMixCallback, MixedBatch]:
    callback = SuperMixCallback(teacher, MixUp())
    mix = callback.mixer(teacher, images, seed=0)
    mix.images = mix.images + 2  # so that their statistics are others
    mix.natural_logits = teacher(images) if natural_logits else None
    callback.mix = mix
    return callback, mix


def batch_of(teacher: FrozenTeacher, *, natural_logits: bool = False) -> Any:
    images = torch.randn(NATURAL, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 1, 2, 0])
    mixing, mix = mixing_of(teacher, images, natural_logits=natural_logits)
    assert mix.teacher_logits is not None
    return mixing, torch.cat([images, mix.images]), torch.cat([labels, mix.teacher_logits.argmax(dim=1)])


def divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    wanted, got = (logits.div(temperature).softmax(dim=1) for logits in (teacher_logits, student_logits))
    return temperature**2 * (wanted * (wanted / got).log()).sum(dim=1).mean()


@pytest.mark.parametrize("separate", [False, True], ids=["one-forward", "two-forwards"])
@pytest.mark.parametrize("natural_logits", [False, True])
def test_the_losses_by_hand(separate: bool, natural_logits: bool) -> None:
    teacher = teacher_of()
    mixing, images, labels = batch_of(teacher, natural_logits=natural_logits)
    network = student()
    if separate:
        natural, mixed = network(images[:NATURAL]), network(images[NATURAL:])
    else:
        natural, mixed = network(images).split(NATURAL)
    ce = cross_entropy(natural, labels[:NATURAL]) + cross_entropy(mixed, labels[NATURAL:])
    options = {"mixing": mixing, "separate_forwards": separate}
    plain = task_of(ce_weight=1.7, **options)
    torch.testing.assert_close(plain.training_step((images, labels), 0), 1.7 * ce)
    distilled = task_of(
        Distillation, ce_weight=1.8, kd_weight=0.2, temperature=3.0, teacher=teacher, **options
    ).training_step((images, labels), 0)
    kl = divergence(natural, teacher(images[:NATURAL]), 3.0)
    torch.testing.assert_close(distilled, 1.8 * ce + 0.2 * kl)
    assert not torch.allclose(kl, divergence(mixed, teacher(images[NATURAL:]), 3.0))


@pytest.mark.parametrize("natural_logits", [False, True])
def test_the_divergence_of_natural_images_and_mixes(natural_logits: bool) -> None:
    teacher = teacher_of()
    mixing, images, labels = batch_of(teacher, natural_logits=natural_logits)
    seen: list[int] = []
    teacher.module.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    options = {"mixing": mixing, "teacher": teacher, "ce_weight": 0.0, "kd_weight": 0.5, "temperature": 2.0}
    loss = task_of(Distillation, matched="all", **options).training_step((images, labels), 0)
    assert seen == [NATURAL if natural_logits else len(images)]  # the mixes as they are now, not as they were labelled

    natural, mixed = student()(images).split(NATURAL)
    expected = divergence(natural, teacher(images[:NATURAL]), 2.0) + divergence(mixed, teacher(images[NATURAL:]), 2.0)
    torch.testing.assert_close(loss, 0.5 * expected)


@pytest.mark.parametrize("rows", [slice(None), slice(NATURAL, None)], ids=["extend", "replace"])
@pytest.mark.parametrize("natural_logits", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_logits_of_the_mixing_are_used_again(rows: slice, natural_logits: bool, own: bool) -> None:
    teacher, other = teacher_of(), teacher_of(1)
    mixing, images, labels = batch_of(teacher, natural_logits=natural_logits)
    images, labels = images[rows], labels[rows]
    seen: list[int] = []
    distilling = teacher if own else other
    distilling.module.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    task = task_of(Distillation, mixing=mixing, teacher=distilling, ce_weight=0.0, kd_weight=0.5, temperature=2.0)
    loss = task.training_step((images, labels), 0)
    shared = own and (natural_logits or len(images) == NATURAL)
    assert seen == ([] if shared else [NATURAL])
    expected = divergence(student()(images)[:NATURAL], distilling(images[:NATURAL]), 2.0)
    if not own or len(images) > NATURAL:  # the toy's mixes were shifted after they were labelled
        torch.testing.assert_close(loss, 0.5 * expected)


def test_batch_norm_sees_natural_images_and_mixes_apart() -> None:
    mixing, images, labels = batch_of(teacher_of())
    seen = {}
    for separate in (False, True):
        task = task_of(mixing=mixing, separate_forwards=separate)
        task.training_step((images, labels), 0)
        norm = cast(nn.Sequential, task.network)[0]
        assert isinstance(norm, nn.BatchNorm2d)
        seen[separate] = norm.running_mean
        assert norm.num_batches_tracked == 1 + separate
    torch.testing.assert_close(seen[False], images.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(seen[True], images[NATURAL:].mean(dim=(0, 2, 3)))


@pytest.mark.parametrize("mode", ["natural", "replace"])
@pytest.mark.parametrize("kind", [Classification, Distillation])
@pytest.mark.parametrize("matched", ["natural", "all"])
def test_a_batch_of_one_kind_passes_once_and_counts_once(mode: str, kind: type[Classification], matched: str) -> None:
    teacher = teacher_of()
    mixing, images, labels = batch_of(teacher)
    rows = slice(NATURAL) if mode == "natural" else slice(NATURAL, None)
    images, labels = images[rows], labels[rows]
    wanted = teacher(images) if mode == "natural" else mixing.mix.teacher_logits
    mixing.mix = mixing.mix if mode == "replace" else None
    own = {"teacher": teacher, "kd_weight": 0.5, "temperature": 2.0, "matched": matched}
    options = own if kind is Distillation else {}
    task = task_of(kind, mixing=mixing, ce_weight=1.5, separate_forwards=True, **options)
    logits = student()(images)
    expected = 1.5 * cross_entropy(logits, labels)
    if kind is Distillation:
        expected = expected + 0.5 * divergence(logits, wanted, 2.0)
    torch.testing.assert_close(task.training_step((images, labels), 0), expected)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Classification, {"ce_weight": -1.0}, "expected ce_weight >= 0, got -1.0"),
        (Distillation, {"kd_weight": -1.0}, "expected kd_weight >= 0, got -1.0"),
        (Distillation, {"temperature": 0.0}, "expected temperature > 0, got 0.0"),
        (Distillation, {"matched": "mixed"}, "expected matched to be one of natural, all, got 'mixed'"),
    ],
)
def test_arguments_out_of_range(kind: type[Classification], options: dict[str, Any], message: str) -> None:
    teacher = {"teacher": teacher_of()} if kind is Distillation else {}
    with pytest.raises(ValueError, match=message):
        task_of(kind, **teacher, **options)


class Given(nn.Module):
    """The images are its logits."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def test_the_best_epoch_is_kept_with_its_best_five() -> None:
    task = Classification(Given(), num_classes=10, optimizer=torch.optim.SGD, scheduler=constant)
    task.log = lambda *arguments, **settings: None
    ranked = torch.arange(10.0).flip(0).expand(4, 10)[:, :, None, None]  # class 0 first, class 9 last
    epochs = [
        (True, [0, 0, 0, 0]),  # a sanity check
        (False, [0, 0, 9, 9]),
        (False, [0, 0, 0, 4]),
        (False, [0, 0, 0, 9]),  # as good, but later
        (False, [0, 1, 2, 3]),
    ]
    for number, (sanity, labels) in enumerate(epochs):
        trainer = SimpleNamespace(sanity_checking=sanity, current_epoch=number)
        task._trainer = trainer  # pyright: ignore[reportAttributeAccessIssue]
        task.validation_step((ranked[:3], torch.tensor(labels[:3])), 0)
        task.validation_step((ranked[3:], torch.tensor(labels[3:])), 1)
        task.on_validation_epoch_end()
    assert task.best == {"accuracy": 0.75, "accuracy_top5": 1.0, "epoch": 2}
    checkpoint: dict[str, Any] = {}
    task.on_save_checkpoint(checkpoint)
    other = Classification(Given(), num_classes=10, optimizer=torch.optim.SGD, scheduler=constant)
    other.on_load_checkpoint(checkpoint)
    assert other.best == task.best
