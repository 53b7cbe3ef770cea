"""Images without labels: all of them, or those of label -1."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from supermix_pl import CutMix, FrozenTeacher, MixUp, StreamEngine, SuperMix, SuperMixCallback, SuperMixMixin
from supermix_pl.engine import BatchEngine
from tests.integration.toys import Student, loader_of, make_callback, make_trainer, natural_data
from tests.problems import NUM_CLASSES, BlindToMarked, Counting, FlatTeacher, mark, natural_images
from tests.rewriters import rewriter, tensors_of

SIZE, TEMPERATURE = 6, 2.0
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
HALF = torch.tensor([2, -1, 0, -1, -1, 5])
FORMATS = ["teacher", "soft", "teacher_soft", "pairs"]
MIXERS = {
    "supermix": SuperMix(mask_size=4, max_steps=2),
    "fast": SuperMix.fast(mask_size=4, max_steps=2),
    "labels": SuperMix(mask_size=4, max_steps=2, classes="labels"),
    "mixup": MixUp(),
}
pytestmark = pytest.mark.usefixtures("unchecked")


def images(step: int = 0) -> Tensor:
    return natural_images(SIZE, (8, 8), dtype=torch.float32, seed=step)


def teacher() -> FrozenTeacher:
    return FrozenTeacher(FlatTeacher())


def logits_of(shown: Tensor) -> Tensor:
    return FlatTeacher()(shown).detach()


def expected(shown: Tensor, labels: Tensor, targets: str, k: int = 2) -> list[Tensor]:
    """Natural rows: the given label, else the teacher's class, or its probabilities where there is room for them."""
    logits, missing = logits_of(shown), labels < 0
    classes = torch.where(missing, logits.argmax(dim=1), labels)
    if targets == "teacher":
        return [classes]
    if targets == "pairs":
        return [classes[:, None].expand(-1, k), torch.eye(k)[0].expand(len(shown), k)]
    rows = one_hot(classes, NUM_CLASSES).float()
    if targets == "teacher_soft":
        rows[missing] = (logits / TEMPERATURE).softmax(dim=1)[missing]
    return [rows]


@pytest.mark.parametrize("given", ["none", "half"])
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("targets", FORMATS)
def test_rows_without_a_label_get_the_teachers(targets: str, mixer: str, streams: bool, given: str) -> None:
    engine = StreamEngine(reuse=2) if streams else BatchEngine()
    soft = {"target_temperature": TEMPERATURE} if targets == "teacher_soft" else {}
    writing = rewriter(
        mixer=MIXERS[mixer],
        engine=engine,
        targets=targets,
        label_natural=True,
        target_key=None if given == "none" else 1,
        **soft,
    )
    labels = HALF if given == "half" else torch.full((SIZE,), -1)
    for step in range(3 if streams else 1):
        shown = images(step)
        batch = [shown] if given == "none" else [shown, HALF]
        rewritten = writing.rewrite([*batch, ["a"] * SIZE], teacher(), stream=(0, 0, step))
        assert rewritten.mix is not None
        assert rewritten.batch[-1] == ["a"] * 2 * SIZE
        assert (rewritten.labels is None) == (given != "none")
        found = tensors_of(rewritten.labels if given == "none" else rewritten.batch[1])
        rows = rewritten.batch[0]
        torch.testing.assert_close(rewritten.teacher_logits, logits_of(rows), **CLOSE)
        for part, wanted in zip(found, expected(shown, labels, targets), strict=True):
            assert len(part) == 2 * SIZE
            torch.testing.assert_close(part[:SIZE], wanted, **CLOSE)
        assert_mixed([part[SIZE:] for part in found], rewritten.mix, targets)
        classes = torch.where(labels < 0, logits_of(shown).argmax(dim=1), labels)
        if not streams and (mixer in ("labels", "mixup")):
            assert rewritten.mix.source_classes.equal(classes[rewritten.mix.source_indices])
        left = writing.leave_natural([*batch, 7], teacher(), NUM_CLASSES)
        found = tensors_of(left.labels if given == "none" else left.batch[1])
        for part, wanted in zip(found, expected(shown, labels, targets), strict=True):
            torch.testing.assert_close(part, wanted, **CLOSE)


def assert_mixed(labels: list[Tensor], mix: Any, targets: str) -> None:
    wanted = {
        "teacher": [mix.teacher_logits.argmax(dim=1)],
        "soft": [mix.soft_targets],
        "teacher_soft": [(mix.teacher_logits / TEMPERATURE).softmax(dim=1)],
        "pairs": [mix.source_classes, mix.mix_weights],
    }[targets]
    for part, value in zip(labels, wanted, strict=True):
        torch.testing.assert_close(part, value, **CLOSE)


@pytest.mark.parametrize("streams", [False, True])
def test_a_share_of_the_teachers_is_for_rows_with_a_label(streams: bool) -> None:
    engine = StreamEngine() if streams else BatchEngine()
    writing = rewriter(targets="teacher_soft", natural_share=0.25, engine=engine)
    labels = writing.rewrite([images(), HALF], teacher(), stream=(0,)).batch[1][:SIZE]
    taught, rows = logits_of(images()).softmax(dim=1), one_hot(HALF.clamp_min(0), NUM_CLASSES).float()
    blended = torch.where((HALF < 0)[:, None], taught, 0.75 * rows + 0.25 * taught)
    torch.testing.assert_close(labels, blended, **CLOSE)


@pytest.mark.parametrize("given", ["none", "half"])
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("mixer", MIXERS)
def test_mixes_in_the_place_of_images(mixer: str, streams: bool, given: str) -> None:
    engine = StreamEngine(reuse=2) if streams else BatchEngine()
    options = {"target_key": None} if given == "none" else {}
    writing = rewriter(mixer=MIXERS[mixer], engine=engine, mode="replace", every_batch=False, **options)
    for step in range(3 if streams else 1):
        batch = [images(step)] if given == "none" else [images(step), HALF.to(torch.int8)]
        rewritten = writing.rewrite(batch, teacher(), stream=(0, step))
        labels = rewritten.labels if given == "none" else rewritten.batch[1]
        assert isinstance(labels, Tensor)
        assert labels.equal(logits_of(rewritten.batch[0]).argmax(dim=1))
        assert labels.dtype == torch.long


def test_replacing_costs_no_pass_over_the_natural_images() -> None:
    passed = []
    for key, batch in ((1, [images(), HALF.abs()]), (None, [images()])):
        counting = Counting(FlatTeacher())
        frozen = FrozenTeacher(counting, fold=False)
        writing = rewriter(mixer=SuperMix.fast(max_steps=2), mode="replace", target_key=key)
        writing.rewrite(batch, frozen, stream=(0,))
        passed.append(counting.forwards)
    assert passed[0] == passed[1]


class Taught(Student):
    """Learns from the callback's labels alone."""

    mixing: Any

    def __init__(self, callback: SuperMixCallback, **options: Any) -> None:
        super().__init__(num_classes=NUM_CLASSES, **options)
        object.__setattr__(self, "mixing", callback)  # no submodule
        self.seen: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.keep(batch)
        labels = self.mixing.teacher_labels
        self.seen.append(labels)
        return cross_entropy(self.layer(self.input_of(batch).flatten(1)), labels)


BATCHES = {
    "tensor": (lambda shown: shown, lambda batch: batch, {}),
    "list": (lambda shown: [shown], lambda batch: batch[0], {}),
    "tuple": (lambda shown: (shown, torch.arange(SIZE)), lambda batch: batch[0], {}),
    "dict": (
        lambda shown: {"image": shown, "id": torch.arange(SIZE)},
        lambda batch: batch["image"],
        {"input_key": "image"},
    ),
}


@pytest.mark.parametrize("hydra", [False, True])
@pytest.mark.parametrize("mode", ["extend", "replace"])
@pytest.mark.parametrize("kind", BATCHES)
def test_batches_of_any_kind(kind: str, mode: str, hydra: bool, tmp_path: Path) -> None:
    make, input_of, keys = BATCHES[kind]
    settings = {"mode": mode, "target_key": None, "every_n_batches": 2, "label_natural": True, **keys}
    if hydra:
        node = {"_target_": "supermix_pl.SuperMixCallback", "teacher": {"_target_": "tests.problems.FlatTeacher"}}
        callback = instantiate(node | settings | {"mixer": {"_target_": "supermix_pl.MixUp"}})
    else:
        callback = SuperMixCallback(FlatTeacher(), SuperMix.fast(mask_size=4, max_steps=2), **settings)
    student = Taught(callback, input_of=input_of)
    make_trainer(tmp_path, callback).fit(student, loader_of([make(images(step)) for step in range(3)]))
    sizes = [SIZE if mode == "replace" else 2 * SIZE, SIZE, SIZE if mode == "replace" else 2 * SIZE]
    assert [len(shown) for shown in student.images] == sizes
    for batch, shown, labels in zip(student.batches, student.images, student.seen, strict=True):
        assert labels.equal(logits_of(shown).argmax(dim=1))
        assert type(batch) is type(make(shown))
        if kind == "dict":
            assert batch["id"].equal(torch.arange(SIZE).repeat(len(shown) // SIZE))
    assert callback.teacher_labels is None


def test_a_pair_of_functions_says_where_labels_go(tmp_path: Path) -> None:
    """So that a module that unpacks images and labels need not change."""
    callback = SuperMixCallback(
        FlatTeacher(),
        MixUp(),
        input_key=(lambda batch: batch[0], lambda batch, shown: (shown, batch[1])),
        target_key=(lambda batch: batch[1], lambda batch, labels: (batch[0], labels)),
    )
    student = Student(num_classes=NUM_CLASSES)
    make_trainer(tmp_path, callback).fit(student, loader_of([(images(), None)]))
    assert student.labels[0].equal(logits_of(student.images[0]).argmax(dim=1))


def test_a_module_that_brings_its_mixing_has_them(tmp_path: Path) -> None:
    class Own(SuperMixMixin, Student):
        def configure_supermix(self) -> SuperMixCallback:
            return SuperMixCallback(FlatTeacher(), CutMix(), target_key=None, targets="soft")

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            assert isinstance(self.teacher_labels, Tensor)
            return cross_entropy(self.layer(batch.flatten(1)), self.teacher_labels)

    student = Own(num_classes=NUM_CLASSES)
    make_trainer(tmp_path).fit(student, loader_of([images()] * 2))
    assert student.teacher_labels is None


def test_the_teacher_is_not_judged_by_its_own_labels(tmp_path: Path) -> None:
    """Every label that is given is wrong, so the warning comes; and it does not, where none is given."""
    shown = natural_images(200, (8, 8), dtype=torch.float32)
    labels = (logits_of(shown).argmax(dim=1) + 1) % NUM_CLASSES
    labels[::2] = -1
    wrong = [(shown, labels)] * 3
    callback = SuperMixCallback(FlatTeacher(), MixUp(), engine="batch")
    trainer = make_trainer(tmp_path, callback)
    with pytest.warns(UserWarning, match="agrees with 0 of the first 256 labels"):
        trainer.fit(Student(num_classes=NUM_CLASSES), loader_of(wrong))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The teacher agrees")
        callback = SuperMixCallback(FlatTeacher(), MixUp(), engine="batch", target_key=None)
        make_trainer(tmp_path, callback).fit(Taught(callback), loader_of([[shown] for shown, _ in wrong]))


@pytest.mark.parametrize("trained", [True, False])
def test_before_the_teacher_supervises(trained: bool, tmp_path: Path) -> None:
    """A teacher that is there labels from the first batch on; of an average that is not, this is said."""
    settings: dict[str, Any] = {"target_key": None, "start_epoch": 1, "before_start": "mixup", "targets": "soft"}
    if trained:
        callback = make_callback(FlatTeacher(), **settings)
        student = Taught(callback)
        make_trainer(tmp_path, callback, max_epochs=2).fit(student, loader_of([[images()]]))
        assert [len(labels) for labels in student.seen] == [2 * SIZE] * 2
        assert student.seen[0][:SIZE].argmax(dim=1).equal(logits_of(images()).argmax(dim=1))
        return

    class Own(Student):
        def forward(self, shown: Tensor) -> Tensor:
            return self.layer(shown.flatten(1))

    def trainer_of(*arguments: Any, **options: Any) -> Any:
        return make_trainer(tmp_path, make_callback(*arguments, **options), max_epochs=2)

    for more in ({}, {"before_start": "nothing"}):
        with pytest.raises(ValueError, match="expected a teacher to label the 6 of 6 images that have no label"):
            trainer_of("ema", **settings | more).fit(Own(), loader_of([[images()]]))


def test_what_cannot_be_labelled() -> None:
    with pytest.raises(ValueError, match="expected a teacher for target_key=None"):
        SuperMixCallback(None, MixUp(num_classes=3), targets="soft", target_key=None)
    with pytest.raises(ValueError, match="expected a teacher to label the 3 of 6 images that have no label"):
        rewriter(mixer=MixUp(num_classes=6), targets="soft").rewrite([images(), HALF], None, stream=(0,))
    blind = FrozenTeacher(BlindToMarked(FlatTeacher()))
    with pytest.raises(ValueError, match="images without a label, got NaN or infinity for 1 of 6"):
        rewriter(target_key=None).rewrite([mark(images(), 2)], blind, stream=(0,))
    labels = rewriter().rewrite([mark(images(), 2), HALF], blind, stream=(0,)).batch[1]  # that one has a label
    assert labels[2] == HALF[2]
    with pytest.raises(ValueError, match=r"expected labels in \[0, 6\).* from -2 to"):
        rewriter().rewrite([images(), HALF - (HALF < 0).long()], teacher(), stream=(0,))
    with pytest.raises(KeyError, match="have the field 0, got a Tensor"):
        rewriter().rewrite(images(), teacher(), stream=(0,))


def test_teachers_logits_are_not_made_twice(tmp_path: Path) -> None:
    counting = Counting(FlatTeacher())
    callback = make_callback(FrozenTeacher(counting, fold=False), MixUp(), target_key=None, label_natural=True)
    make_trainer(tmp_path, callback).fit(Taught(callback), loader_of([[natural_data(SIZE)[0]]]))
    assert counting.forwards == 2 * SIZE
