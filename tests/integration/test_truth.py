"""What comes with an image is the teacher's for exactly that image, or a label that does not depend on the teacher.

For every engine, mode, format and view, with a teacher that views do change: a linear map of the flattened pixels. In
float32 its logits, of size 1 to 10, are compared to 1e-4.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from supermix_pl import CutMix, FrozenTeacher, MixUp, OneOf, PuzzleMix, ResizeMix, StreamEngine, SuperMix
from supermix_pl.engine import BatchEngine
from supermix_pl.engine.stream import direct, solving, visit
from supermix_pl.mixing import grid_labels, presenting
from supermix_pl.trainer.rewriting import BatchRewriter, Rewritten
from supermix_pl.transforms import PerImage, RandomCropFlip, RandomResizedCropFlip
from tests.engine.streams import batch_of
from tests.integration.toys import Student, loader_of, make_callback, make_trainer
from tests.problems import NUM_CLASSES, BlindToMarked, FlatTeacher, mark

TOLERANCE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4}
TEMPERATURE, SIZE, STEPS = 2.0, 6, 5
_STEPS: dict[str, Any] = {"mask_size": 4, "max_steps": 3, "max_logit_step": 1.0}
FORMATS = ["teacher", "soft", "teacher_soft", "pairs"]
MODES = ["extend", "replace"]


@dataclass(frozen=True)
class Case:
    mixer: Any
    engine: Callable[[], Any]


CASES = {
    "batch, exact pixels": Case(SuperMix(**_STEPS), BatchEngine),
    "batch, MixUp of the unsolved": Case(SuperMix(**_STEPS, on_unsolved="mixup"), BatchEngine),
    "batch, sources of the unsolved": Case(SuperMix(**_STEPS, on_unsolved="source"), BatchEngine),
    "batch, views": Case(SuperMix.fast(**_STEPS), BatchEngine),
    "batch, other views": Case(SuperMix(**_STEPS, views=RandomResizedCropFlip()), BatchEngine),
    "batch, MixUp": Case(MixUp(), BatchEngine),
    "batch, PuzzleMix": Case(PuzzleMix(), BatchEngine),
    "stream, views": Case(SuperMix.fast(**_STEPS), lambda: StreamEngine(reuse=4)),
    "stream, all visits shown": Case(SuperMix.fast(**_STEPS), lambda: StreamEngine(reuse=3, show_from=0)),
    "stream, replays only": Case(SuperMix.fast(**_STEPS), lambda: StreamEngine(reuse=4, show_from=3)),
    "stream, exact pixels": Case(SuperMix(**_STEPS), lambda: StreamEngine(reuse=3)),
    "stream, other views": Case(SuperMix(**_STEPS, views=RandomResizedCropFlip()), lambda: StreamEngine(reuse=3)),
    "stream, MixUp": Case(MixUp(k=3), StreamEngine),
    "stream, one of several": Case(OneOf([MixUp(), CutMix(), ResizeMix(), PuzzleMix()]), StreamEngine),
}
VIEWS = {
    "none": None,
    "ours": RandomCropFlip(padding=2),
    "resized": RandomResizedCropFlip(scale=(0.3, 1.0)),
    "torchvision's": v2.RandomAffine(20, translate=(0.2, 0.2)),  # pyright: ignore
    "a policy": PerImage(v2.RandAugment(), mean=[0.5] * 3, std=[0.2] * 3),
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:no gradient flows through PerImage"),
    pytest.mark.filterwarnings("ignore:None of the 6 sets of a batch was solved"),
]


@pytest.fixture(autouse=True)
def _coarse_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_labels, "_ROUNDS", 4)  # PuzzleMix takes most of the time otherwise


def logits_of(images: Tensor, teacher: Any = None) -> Tensor:
    return (teacher or FlatTeacher())(images.float()).detach()


def assert_labels(labels: Any, rewritten: Rewritten, logits: Tensor, target_format: str) -> None:
    """The labels of mixes are what the format says, of the logits of what is shown."""
    mix = rewritten.mix
    assert mix is not None
    if target_format == "teacher":
        assert labels.equal(logits.argmax(dim=1))
    elif target_format == "teacher_soft":
        torch.testing.assert_close(labels, (logits / TEMPERATURE).softmax(dim=1), **TOLERANCE)
    elif target_format == "soft":
        weights = torch.zeros(len(labels), NUM_CLASSES).scatter_add(1, mix.source_classes, mix.mix_weights.float())
        torch.testing.assert_close(labels, weights)
    else:
        assert labels[0].equal(mix.source_classes)
        assert labels[1].equal(mix.mix_weights)


def assert_true(rewritten: Rewritten, images: Tensor, mode: str, target_format: str, *, natural: bool) -> None:
    """All that comes with a batch is the teacher's of exactly the images in it."""
    mix = rewritten.mix
    assert mix is not None
    assert mix.teacher_logits is not None
    shown, labels = rewritten.batch
    first = SIZE if mode == "extend" else 0
    assert shown[first:].equal(mix.images)
    assert shown[:first].equal(images[:first])
    torch.testing.assert_close(mix.teacher_logits, logits_of(shown[first:]), **TOLERANCE)
    mixed = labels[first:] if isinstance(labels, Tensor) else tuple(part[first:] for part in labels)
    assert_labels(mixed, rewritten, logits_of(shown[first:]), target_format)
    assert (rewritten.teacher_logits is not None) == natural
    if rewritten.teacher_logits is not None:
        assert len(rewritten.teacher_logits) == len(shown)
        torch.testing.assert_close(rewritten.teacher_logits, logits_of(shown), **TOLERANCE)


def rewriter_of(case: Case, view: Any, mode: str, target_format: str, *, natural: bool = True) -> BatchRewriter:
    engine = case.engine()
    return BatchRewriter(
        mixer=case.mixer,
        engine=engine,
        mode=mode,  # pyright: ignore[reportArgumentType]
        targets=target_format,  # pyright: ignore[reportArgumentType]
        input_key=0,
        target_key=1,
        mixed_transform=engine.default_transform if view is None else view,
        target_temperature=TEMPERATURE if target_format == "teacher_soft" else 1.0,
        label_natural=natural,
    )


def rewrite_all(case: Case, view: Any, mode: str, target_format: str, dtype: torch.dtype = torch.float32) -> int:
    """Rewrite batch after batch, and check each; give how many views changed what the teacher says."""
    teacher, changed = FrozenTeacher(FlatTeacher()), 0
    natural = (mode == "extend") == (target_format in ("teacher", "pairs"))
    rewriter = rewriter_of(case, view, mode, target_format, natural=natural)
    for step in range(STEPS):
        images, labels = batch_of(step, SIZE)
        images = images.to(dtype)
        rewritten = rewriter.rewrite((images, labels), teacher, stream=(0, 0, step))
        assert_true(rewritten, images, mode, target_format, natural=natural)
        assert rewritten.mix is not None
        if rewritten.mix.holds is not None:
            flipped = logits_of(rewritten.mix.images.flip(3))
            changed += int(((flipped - logits_of(rewritten.mix.images)).abs().amax(dim=1) > 0.1).sum())
    return changed


def in_turns(turn: int) -> list[Any]:
    """Return all cases under all views; `make test` has half of them, so that no case and no view is left out."""
    together = itertools.product(enumerate(CASES), enumerate(VIEWS))
    return [
        pytest.param(case, view, marks=[pytest.mark.slow] * ((first + second) % 4 // 2 != turn))
        for (first, case), (second, view) in together
    ]


@pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("case", "view"), in_turns(0))
def test_everything_that_comes_with_an_image_is_of_exactly_that_image(case: str, view: str, half: int) -> None:
    """Each half has all modes and formats for each case, and for each view; both have all of them together."""
    first = [*CASES].index(case) + [*VIEWS].index(view) + half
    pairs = [(MODES[(first + number) % 2], name) for number, name in enumerate(FORMATS)]
    changed = [rewrite_all(CASES[case], VIEWS[view], mode, name) for mode, name in pairs]
    if VIEWS[view] is not None or case.startswith("stream"):
        assert min(changed) > 0.9 * STEPS * SIZE  # other views of these images have other logits


@pytest.mark.parametrize(("case", "view"), in_turns(1))
def test_in_half_precision_it_is_of_what_was_rounded(case: str, view: str) -> None:
    rewrite_all(CASES[case], VIEWS[view], "extend", "teacher_soft", torch.bfloat16)


def test_a_view_of_kornia() -> None:
    augmentation = pytest.importorskip("kornia.augmentation")
    for case in ("batch, views", "stream, views", "stream, one of several"):
        view = augmentation.RandomAffine(degrees=20.0, translate=(0.2, 0.2), p=1.0)
        rewrite_all(CASES[case], view, "extend", "teacher_soft")


@pytest.mark.parametrize("target_format", FORMATS)
@pytest.mark.parametrize("case", ["batch, other views", "batch, MixUp", "stream, other views", "stream, MixUp"])
def test_what_the_teacher_cannot_see_has_labels_that_do_not_depend_on_it(case: str, target_format: str) -> None:
    """Views on which its logits are not finite carry Eq. 2's."""
    module = BlindToMarked(FlatTeacher())
    rewriter = rewriter_of(CASES[case], lambda mixes: mark(mixes, 1, 4), "replace", target_format)
    teacher = FrozenTeacher(module, fold=False)
    for step in range(STEPS):
        images, labels = batch_of(step, SIZE)
        images = images.clamp(-1, 1)  # no view of them is marked by chance
        rewritten = rewriter.rewrite((mark(images), labels), teacher, stream=(0, 0, step))
        mix = rewritten.mix
        assert mix is not None
        assert rewritten.teacher_logits is not None
        lost = torch.tensor([row in (1, 4) for row in range(SIZE)])
        assert mix.non_finite.equal(lost)
        torch.testing.assert_close(rewritten.teacher_logits[lost].softmax(dim=1), mix.soft_targets[lost].float())
        torch.testing.assert_close(rewritten.teacher_logits[~lost], logits_of(mix.images[~lost]), **TOLERANCE)
        given = rewritten.batch[1]
        if target_format == "teacher":
            assert given[lost].equal(mix.soft_targets[lost].argmax(dim=1))
        elif target_format != "pairs":
            assert given.isfinite().all()


# The check itself


def swap_views(monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> None:
    """Let the teacher look at another view of the same images."""
    plain = getattr(where, name)
    monkeypatch.setattr(where, name, lambda teacher, images, *rest: plain(teacher, images.flip(3), *rest))


def swap_visits(monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> None:
    """Give the student another view of the mixes of a visit than the teacher was shown."""

    def advance(*arguments: Any) -> Any:
        state, rendered, seen = plain(*arguments)
        return state, replace(rendered, images=rendered.images.flip(3)), seen

    plain = getattr(where, name)
    monkeypatch.setattr(where, name, advance)


@pytest.mark.parametrize(
    ("case", "swap", "where", "name"),
    [
        ("batch, exact pixels", swap_views, presenting, "show"),
        ("batch, views", swap_views, presenting, "show"),
        ("batch, MixUp", swap_views, presenting, "show"),
        ("stream, replays only", swap_views, solving, "show"),
        ("stream, exact pixels", swap_views, solving, "show"),
        ("stream, all visits shown", swap_visits, visit, "advance"),
        ("stream, views", swap_visits, visit, "advance"),
        ("stream, MixUp", swap_views, direct, "show"),
    ],
)
@pytest.mark.parametrize("target_format", ["teacher", "teacher_soft", "soft"])
def test_logits_of_another_view_are_found(
    case: str, swap: Any, where: Any, name: str, target_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite_all(CASES[case], VIEWS["ours"], "extend", target_format)
    swap(monkeypatch, where, name)
    with pytest.raises(AssertionError, match="not close"):
        rewrite_all(CASES[case], VIEWS["ours"], "extend", target_format)


def test_logits_of_another_natural_batch_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = BatchRewriter._look
    monkeypatch.setattr(BatchRewriter, "_look", lambda self, teacher, images: plain(self, teacher, images.flip(3)))
    with pytest.raises(AssertionError, match="not close"):
        rewrite_all(CASES["stream, views"], None, "extend", "teacher")


# In a training


class Checking(Student):
    """Compares all that it gets, in every step, with what the teacher says of the images at hand."""

    def __init__(self, mode: str, target_format: str) -> None:
        super().__init__(num_classes=NUM_CLASSES)
        self.mode, self.target_format = mode, target_format
        self.mixed: list[bool] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        callback = next(one for one in self.trainer.callbacks if hasattr(one, "teacher_logits"))
        images, labels = batch
        truth = logits_of(images)
        assert callback.teacher_logits is not None
        assert callback.teacher_logits.shape == (len(images), NUM_CLASSES)
        torch.testing.assert_close(callback.teacher_logits, truth, **TOLERANCE)
        self.mixed.append(callback.mix is not None)
        first = 0 if callback.mix is not None and self.mode == "replace" else SIZE
        if callback.mix is not None:
            assert len(images) == (SIZE if self.mode == "replace" else 2 * SIZE)
            mixed = labels[first:] if isinstance(labels, Tensor) else tuple(part[first:] for part in labels)
            rewritten = Rewritten(batch, callback.mix, callback.teacher_logits)
            assert_labels(mixed, rewritten, truth[first:], self.target_format)
        natural = batch_of(len(self.mixed) - 1, SIZE)[1]
        if first and self.target_format == "teacher":
            assert labels[:first].equal(natural)
        elif first and self.target_format == "pairs":
            assert labels[0][:first].equal(natural[:, None].expand(-1, 2))
            assert labels[1][:first].equal(torch.tensor([[1.0, 0.0]]).expand(first, -1))
        elif first:
            share = 0.3 if self.target_format == "teacher_soft" else 0.0
            given = torch.eye(NUM_CLASSES)[natural]
            expected = (1 - share) * given + share * (truth[:first] / TEMPERATURE).softmax(dim=1)
            torch.testing.assert_close(labels[:first], expected, **TOLERANCE)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("target_format", FORMATS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["batch, views", "batch, MixUp", "stream, views", "stream, one of several"])
def test_logits_and_labels_of_every_row_in_a_training(case: str, mode: Any, target_format: Any, tmp_path: Path) -> None:
    """Some of the batches are not mixed; the teacher's logits of natural images come with them all the same."""
    soft: dict[str, Any] = {"natural_targets": 0.3, "target_temperature": TEMPERATURE}
    callback = make_callback(
        FlatTeacher(),
        CASES[case].mixer,
        engine=CASES[case].engine(),
        mode=mode,
        targets=target_format,
        label_natural=True,
        mixed_transform=VIEWS["ours"],
        probability=0.6,
        **(soft if target_format == "teacher_soft" else {}),
    )
    student = Checking(mode, target_format)
    make_trainer(tmp_path, callback).fit(student, loader_of(batch_of(step, SIZE) for step in range(8)))
    assert len(student.mixed) == 8
    assert 0 < sum(student.mixed) < 8
    assert callback.teacher_logits is None
    assert callback.mix is None
