"""The losses of both tasks by hand, in one forward and in two; the best epoch."""

from dataclasses import replace
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
from supermix_pl.losses import dist_loss, dkd_loss, similarity_loss
from supermix_pl.trainer.rewriting import Rewritten
from tests.experiments.mixes.mixes_toys import SIZE, teacher_of

NATURAL = 4


def student() -> nn.Module:
    """Its batch norm takes on the statistics of the last forward alone."""
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(3, momentum=1.0), nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 3))


def task_of(
    kind: type[Classification] = Classification, *, mixing: SuperMixCallback | None = None, **options: Any
) -> Classification:
    task = kind(student(), num_classes=3, optimizer=partial(torch.optim.SGD, lr=0.1), scheduler=constant, **options)
    task.log = lambda *arguments, **settings: None
    task.mixing = mixing
    return task


def mixing_of(teacher: FrozenTeacher, images: Tensor, *, labelled: bool) -> tuple[SuperMixCallback, MixedBatch]:
    """A callback in a training step; its mixes were shifted after they were labelled, which no loss may miss."""
    callback = SuperMixCallback(teacher, MixUp())
    mix = callback.mixer(teacher, images, seed=0)
    mix.images = mix.images + 2
    mix.natural_logits = teacher(images + 1)
    logits = teacher(torch.cat([images, mix.images])) if labelled else None
    callback._fit = SimpleNamespace(current=Rewritten(None, mix, logits))  # pyright: ignore[reportAttributeAccessIssue]
    return callback, mix


def batch_of(teacher: FrozenTeacher, *, labelled: bool = False) -> Any:
    images = torch.randn(NATURAL, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 1, 2, 0])
    mixing, mix = mixing_of(teacher, images, labelled=labelled)
    assert mix.teacher_logits is not None
    return mixing, torch.cat([images, mix.images]), torch.cat([labels, mix.teacher_logits.argmax(dim=1)])


def divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    wanted, got = (logits.div(temperature).softmax(dim=1) for logits in (teacher_logits, student_logits))
    return temperature**2 * (wanted * (wanted / got).log()).sum(dim=1).mean()


@pytest.mark.parametrize("separate", [False, True], ids=["one-forward", "two-forwards"])
@pytest.mark.parametrize("labelled", [False, True])
def test_the_losses_by_hand(separate: bool, labelled: bool) -> None:
    teacher = teacher_of()
    mixing, images, labels = batch_of(teacher, labelled=labelled)
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


@pytest.mark.parametrize("kind", [Classification, Distillation])
def test_labels_that_the_batch_has_no_place_for(kind: type[Classification]) -> None:
    teacher = teacher_of()
    mixing, images, labels = batch_of(teacher)
    own = {"teacher": teacher} if kind is Distillation else {}
    expected, given = (
        task_of(kind, mixing=mixing, **own).training_step((images, each), 0)
        for each in (1 - labels.clamp_max(1), labels)
    )
    mixing._fit.current = replace(mixing._fit.current, labels=1 - labels.clamp_max(1))
    loss = task_of(kind, mixing=mixing, **own).training_step((images, labels), 0)
    torch.testing.assert_close(loss, expected)
    assert not torch.allclose(loss, given)


@pytest.mark.parametrize("labelled", [False, True])
def test_the_divergence_of_natural_images_and_mixes(labelled: bool) -> None:
    teacher = teacher_of()
    mixing, images, labels = batch_of(teacher, labelled=labelled)
    seen: list[int] = []
    teacher.module.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    options = {"mixing": mixing, "teacher": teacher, "ce_weight": 0.0, "kd_weight": 0.5, "temperature": 2.0}
    loss = task_of(Distillation, matched="all", **options).training_step((images, labels), 0)
    assert seen == ([] if labelled else [len(images)])

    natural, mixed = student()(images).split(NATURAL)
    expected = divergence(natural, teacher(images[:NATURAL]), 2.0) + divergence(mixed, teacher(images[NATURAL:]), 2.0)
    torch.testing.assert_close(loss, 0.5 * expected)


@pytest.mark.parametrize("average", ["kinds", "rows"])
@pytest.mark.parametrize("name", ["dkd", "dist"])
@pytest.mark.parametrize("matched", ["natural", "all"])
def test_other_losses_against_the_teachers_logits(name: str, average: str, matched: str) -> None:
    teacher = teacher_of()
    mixing, images, labels = batch_of(teacher, labelled=True)
    options: Any = {"mixing": mixing, "teacher": teacher, "ce_weight": 0.0, "kd_weight": 0.5, "temperature": 2.0}
    task = task_of(Distillation, matched=matched, average=average, loss=name, **options)
    loss = task.training_step((images, torch.nn.functional.one_hot(labels, 3).float()), 0)
    logits, wanted = student()(images), teacher(images)
    natural, mixed, everything = slice(NATURAL), slice(NATURAL, None), slice(None)
    parts = [natural] if matched == "natural" else [natural, mixed] if average == "kinds" else [everything]
    expected = sum(
        dkd_loss(logits[rows], wanted[rows], labels[rows], temperature=2.0)
        if name == "dkd"
        else dist_loss(logits[rows], wanted[rows], temperature=2.0)
        for rows in parts
    )
    torch.testing.assert_close(loss, 0.5 * cast(Tensor, expected))


@pytest.mark.parametrize("separate", [False, True], ids=["one-forward", "two-forwards"])
@pytest.mark.parametrize("matched", ["natural", "all"])
@pytest.mark.parametrize("labelled", [False, True])
def test_similarities_of_features(labelled: bool, matched: str, separate: bool) -> None:
    teacher = FrozenTeacher(teacher_of().module, features="0")
    mixing, images, labels = batch_of(teacher, labelled=labelled)
    taught = teacher.look(images)[1]
    assert taught is not None
    mixing._fit.current = replace(mixing._fit.current, teacher_features=taught if labelled else None)
    options: Any = {"mixing": mixing, "teacher": teacher, "ce_weight": 0.0, "kd_weight": 0.0, "matched": matched}
    task = task_of(Distillation, features="0", feature_weight=7.0, separate_forwards=separate, **options)
    with torch.no_grad():
        task.eval()(images)  # what is not trained on counts for nothing
        task.train()
    norm = cast(nn.Sequential, student())[0]
    features = torch.cat([norm(part) for part in (images.split(NATURAL) if separate else [images])])
    rows = slice(NATURAL if matched == "natural" else None)
    for _ in range(2):
        loss = task.training_step((images, labels), 0)
        torch.testing.assert_close(loss, 7 * similarity_loss(features[rows], taught[rows]))
        loss.backward()
    assert cast(nn.Sequential, task.network)[0].weight.grad.abs().sum() > 0  # pyright: ignore
    for own, taught_by in ((None, teacher), ("0", teacher_of())):
        with pytest.raises(ValueError, match="expected features of both student and teacher, or of none, got"):
            task_of(Distillation, teacher=taught_by, features=own)


@pytest.mark.parametrize("targets", ["teacher", "teacher_soft", "pairs"])
def test_means_over_rows_and_cross_entropy_on_the_natural_images(targets: str) -> None:
    teacher = teacher_of()
    mixing, images, labels = batch_of(teacher, labelled=True)
    given: Any = labels
    if targets == "teacher_soft":
        given = torch.nn.functional.one_hot(labels, 3).float()
    elif targets == "pairs":
        given = labels[:, None].expand(-1, 2), torch.tensor([[0.3, 0.7]]).expand(len(labels), -1)
    logits = student()(images)
    rows = {"mixing": mixing, "average": "rows"}
    plain = task_of(ce_weight=1.5, **rows).training_step((images, given), 0)
    torch.testing.assert_close(plain, 1.5 * cross_entropy(logits, labels))
    options = {**rows, "teacher": teacher, "ce_weight": 0.1, "kd_weight": 0.9, "matched": "all"}
    loss = task_of(Distillation, classified="natural", **options).training_step((images, given), 0)
    kl = divergence(logits, teacher(images), 4.0)
    torch.testing.assert_close(loss, 0.1 * cross_entropy(logits[:NATURAL], labels[:NATURAL]) + 0.9 * kl)


@pytest.mark.parametrize("rows", [slice(None), slice(NATURAL, None)], ids=["extend", "replace"])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_logits_that_come_with_the_batch_are_used_again(rows: slice, labelled: bool, own: bool) -> None:
    teacher, other = teacher_of(), teacher_of(1)
    mixing, images, labels = batch_of(teacher, labelled=labelled)
    images, labels = images[rows], labels[rows]
    if labelled:
        mixing._fit.current = Rewritten(None, mixing.mix, mixing.teacher_logits[rows])
    seen: list[int] = []
    distilling = teacher if own else other
    distilling.module.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    task = task_of(Distillation, mixing=mixing, teacher=distilling, ce_weight=0.0, kd_weight=0.5, temperature=2.0)
    loss = task.training_step((images, labels), 0)
    assert seen == ([] if own and labelled else [NATURAL])
    torch.testing.assert_close(loss, 0.5 * divergence(student()(images)[:NATURAL], distilling(images[:NATURAL]), 2.0))


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
@pytest.mark.parametrize("rows_of", ["natural", "all"])
def test_a_batch_of_one_kind_passes_once_and_counts_once(mode: str, kind: type[Classification], rows_of: str) -> None:
    teacher = teacher_of()
    mixing, images, labels = batch_of(teacher)
    rows = slice(NATURAL) if mode == "natural" else slice(NATURAL, None)
    images, labels = images[rows], labels[rows]
    wanted = teacher(images)
    mixing._fit.current = Rewritten(None, mixing.mix if mode == "replace" else None)
    own = {"teacher": teacher, "kd_weight": 0.5, "temperature": 2.0, "matched": rows_of, "classified": rows_of}
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
        (Distillation, {"feature_weight": -1.0}, "expected feature_weight >= 0, got -1.0"),
        (Distillation, {"temperature": 0.0}, "expected temperature > 0, got 0.0"),
        (Distillation, {"loss": "at"}, "expected loss to be one of kd, dkd, dist, got 'at'"),
        (Distillation, {"matched": "mixed"}, "expected matched to be one of natural, all, got 'mixed'"),
        (Distillation, {"classified": "mixed"}, "expected classified to be one of natural, all, got 'mixed'"),
        (Classification, {"average": "sets"}, "expected average to be one of kinds, rows, got 'sets'"),
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
