"""A caught batch: every mode with every label format, the view of the mixes, what does not fit."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from supermix_pl import CutMix, FrozenTeacher, MixUp, SuperMix
from supermix_pl.engine import BatchEngine, StreamEngine
from supermix_pl.mixing import MixedBatch, present
from supermix_pl.trainer.rewriting import BatchRewriter
from supermix_pl.transforms import RandomCropFlip
from tests.problems import NUM_CLASSES, BlindToMarked, Counting, SmoothTeacher, mark, natural_images
from tests.rewriters import MIXER, rewriter, tensors_of

LABELS = torch.tensor([0, 5, 2, 2])
STREAM = (3, 0, 7)


def images(count: int = 4) -> Tensor:
    return natural_images(count, dtype=torch.float32)


def teacher() -> FrozenTeacher:
    return FrozenTeacher(SmoothTeacher().float())


def rewrite(writing: BatchRewriter, batch: Any, frozen: FrozenTeacher | None, stream: tuple[int, ...] = STREAM) -> Any:
    """The batch as the student is to see it, and its mixes."""
    rewritten = writing.rewrite(batch, frozen, stream=stream)
    assert isinstance(rewritten.mix, MixedBatch)
    return rewritten.batch, rewritten.mix


def view(mix: MixedBatch, transform: Any, frozen: FrozenTeacher) -> MixedBatch:
    return present(mix, frozen, images(), transform, seed=0, exact=False)


@pytest.mark.parametrize("mode", ["extend", "replace"])
@pytest.mark.parametrize("target_format", ["teacher", "soft", "teacher_soft", "pairs"])
@pytest.mark.parametrize("mixer", [SuperMix(k=3, mask_size=4, max_steps=3), MixUp(k=3), CutMix(k=3)])
def test_every_mode_and_format(mixer: Any, mode: str, target_format: str) -> None:
    batch = (images(), LABELS, ["a", "b", "c", "d"])
    rewritten, mix = rewrite(rewriter(mixer=mixer, mode=mode, targets=target_format), batch, teacher(), stream=STREAM)
    expected = mixer(teacher(), images(), LABELS, seed=STREAM)
    assert mix.images.equal(expected.images)
    assert mix.teacher_logits is not None
    mixed = {
        "teacher": [mix.teacher_logits.argmax(dim=1)],
        "soft": [mix.soft_targets],
        "teacher_soft": [mix.teacher_logits.softmax(dim=1)],
        "pairs": [mix.source_classes, mix.mix_weights],
    }[target_format]
    one_hot = torch.eye(NUM_CLASSES)[LABELS]
    natural = {
        "teacher": [LABELS],
        "soft": [one_hot],
        "teacher_soft": [one_hot],
        "pairs": [LABELS[:, None].expand(4, 3), torch.tensor([[1.0, 0.0, 0.0]] * 4)],
    }[target_format]
    assert isinstance(rewritten, tuple)
    assert isinstance(rewritten[1], tuple) == (target_format == "pairs")
    if mode == "replace":
        assert rewritten[0].equal(mix.images)
        assert rewritten[2] == ["a", "b", "c", "d"]
        parts = mixed
    else:
        assert rewritten[0].equal(torch.cat([images(), mix.images]))
        assert rewritten[2] == ["a", "b", "c", "d"] * 2
        parts = [torch.cat(pair) for pair in zip(natural, mixed, strict=True)]
    assert all(one.equal(other) for one, other in zip(tensors_of(rewritten[1]), parts, strict=True))


def test_the_batch_stays_as_it_is() -> None:
    batch = {"x": images(), "y": LABELS.clone(), "ids": torch.arange(4)}
    held = dict(batch)
    rewrite(rewriter(input_key="x", target_key="y"), batch, teacher(), stream=STREAM)
    assert all(batch[name] is held[name] for name in held)
    assert batch["x"].equal(images())
    assert batch["y"].equal(LABELS)


@pytest.mark.parametrize("mode", ["extend", "replace"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.uint32])
def test_labels_keep_a_dtype_that_holds_all_classes(mode: str, dtype: torch.dtype) -> None:
    labels, kept = LABELS.to(dtype), torch.int32 if dtype == torch.int32 else torch.int64
    writing = rewriter(mode=mode)
    rewritten, mix = rewrite(writing, (images(), labels), teacher(), stream=STREAM)
    assert rewritten[1].dtype == kept
    assert mix.teacher_logits is not None
    assert rewritten[1][-4:].equal(mix.teacher_logits.argmax(dim=1).to(kept))
    left = writing.leave_natural((images(), labels), teacher(), NUM_CLASSES).batch[1]
    assert left.dtype == kept
    assert left.equal(LABELS.to(kept))


PROBABILITIES = torch.eye(NUM_CLASSES)[LABELS]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("mode", ["extend", "replace"])
@pytest.mark.parametrize(
    ("target_format", "labels"),
    [(name, LABELS.to(torch.uint8)) for name in ("teacher", "soft", "teacher_soft", "pairs")]
    + [(name, PROBABILITIES.to(kind)) for name in ("soft", "teacher_soft") for kind in (torch.half, torch.double)]
    + [("teacher", LABELS[:, None])],
)
def test_batches_that_are_not_mixed_have_the_same_format(
    target_format: str, mode: str, dtype: torch.dtype, labels: Tensor
) -> None:
    if labels.shape == (4, 1) and mode == "extend":
        pytest.skip("refused")
    writing = rewriter(mode=mode, targets=target_format, every_batch=False)
    batch = (images().to(dtype), labels)
    mixed = tensors_of(rewrite(writing, batch, teacher(), stream=STREAM)[0][1])
    left = tensors_of(writing.leave_natural(batch, teacher(), NUM_CLASSES).batch[1])
    assert [(part.dtype, part.shape[1:]) for part in mixed] == [(part.dtype, part.shape[1:]) for part in left]


@pytest.mark.parametrize("labels", [PROBABILITIES, LABELS[:, None].expand(4, 2)])
def test_labels_that_would_have_another_format_unmixed_are_refused_at_once(labels: Tensor) -> None:
    mixed, _ = rewrite(rewriter(mode="replace"), (images(), labels), teacher(), stream=STREAM)
    assert mixed[1].shape == (4,)
    writing = rewriter(mode="replace", every_batch=False)
    with pytest.raises(ValueError, match=r"expected labels as \(b,\) integers"):
        rewrite(writing, (images(), labels), teacher(), stream=STREAM)
    with pytest.raises(ValueError, match=r"expected labels as \(b,\) integers"):
        writing.leave_natural((images(), labels), teacher(), None)


@pytest.mark.parametrize("target_format", ["soft", "teacher_soft", "pairs"])
def test_labels_beyond_the_teachers_classes_are_refused_in_batches_that_are_not_mixed(target_format: str) -> None:
    with pytest.raises(ValueError, match=rf"expected labels in \[0, {NUM_CLASSES}\)"):
        rewriter(targets=target_format).leave_natural((images(), LABELS + NUM_CLASSES), teacher(), NUM_CLASSES)


@pytest.mark.parametrize("mode", ["extend", "replace"])
def test_images_of_a_class_stay_of_it(mode: str) -> None:
    batch = (tv_tensors.Image(images()), LABELS)
    rewritten, mix = rewrite(rewriter(mode=mode), batch, teacher(), stream=STREAM)
    assert type(rewritten[0]) is tv_tensors.Image
    assert rewritten[0][-4:].equal(mix.images)


@pytest.mark.parametrize("target_format", ["soft", "teacher_soft"])
def test_natural_probabilities_pass_as_they_are(target_format: str) -> None:
    soft = torch.rand(4, NUM_CLASSES).softmax(dim=1)
    rewritten, _ = rewrite(rewriter(targets=target_format), [images(), soft], teacher(), stream=STREAM)
    assert isinstance(rewritten, list)
    assert rewritten[1][:4].equal(soft)
    assert rewritten[1].shape == (8, NUM_CLASSES)


def test_without_a_teacher() -> None:
    mixer = MixUp(num_classes=NUM_CLASSES)
    rewritten, mix = rewrite(rewriter(mixer=mixer, targets="soft"), (images(), LABELS), None, stream=STREAM)
    assert mix.teacher_forwards == 0
    assert rewritten[1].equal(torch.cat([torch.eye(NUM_CLASSES)[LABELS], mix.soft_targets]))


def test_streams_differ() -> None:
    first, second, again = (
        rewrite(rewriter(), (images(), LABELS), teacher(), stream=stream)[1].mix_weights
        for stream in ((0, 0, 1), (0, 1, 1), (0, 0, 1))
    )
    assert first.equal(again)
    assert not first.equal(second)


# The view of the mixes


def test_the_teacher_labels_the_very_view_of_the_student() -> None:
    counting = Counting(SmoothTeacher().float())
    rewritten, mix = rewrite(
        rewriter(mixed_transform=lambda mixes: mixes.flip(-1)),
        (images(), LABELS),
        FrozenTeacher(counting),
        stream=STREAM,
    )
    plain = rewrite(rewriter(), (images(), LABELS), teacher(), stream=STREAM)[1]
    assert mix.images.equal(plain.images.flip(-1))
    assert rewritten[0][4:].equal(mix.images)
    torch.testing.assert_close(mix.teacher_logits, SmoothTeacher().float()(mix.images).detach())
    assert mix.teacher_forwards == counting.forwards == plain.teacher_forwards + 4
    assert mix.masks.equal(plain.masks)


def test_chance_in_the_view_comes_from_the_stream_and_leaves_the_global_generators_alone() -> None:
    def noisy(mixes: Tensor) -> Tensor:
        return mixes + torch.rand_like(mixes)

    with torch.random.fork_rng(devices=[]):
        views = []
        for seed, stream in ((0, (0, 0, 1)), (1, (0, 0, 1)), (0, (0, 0, 2))):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            mix = rewrite(
                rewriter(mode="replace", mixed_transform=noisy), (images(), LABELS), teacher(), stream=stream
            )[1]
            views.append(mix.images)
            assert torch.get_rng_state().equal(before)
    assert views[0].equal(views[1])
    assert not views[0].equal(views[2])


def test_masks_and_view_are_drawn_from_different_streams() -> None:
    drawn: list[Tensor] = []

    def draw(mixes: Tensor) -> Tensor:
        drawn.append(torch.rand(4))
        return mixes

    for stream in ((0, 0, 1), (0, 0, 1), (0, 0, 2), (0, 1, 1)):
        rewrite(rewriter(mixed_transform=draw), (images(), LABELS), teacher(), stream=stream)
    assert drawn[0].equal(drawn[1])
    assert not any(drawn[0].equal(other) for other in drawn[2:])


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_memory_format_survive_the_view(dtype: torch.dtype, channels_last: bool) -> None:
    natural = images().to(dtype)
    if channels_last:
        natural = natural.to(memory_format=torch.channels_last)
    rewritten, _ = rewrite(
        rewriter(mode="replace", mixed_transform=RandomCropFlip()), (natural, LABELS), teacher(), stream=STREAM
    )
    assert rewritten[0].dtype == dtype
    assert rewritten[0].stride() == natural.stride()


def test_a_view_of_another_size_is_fine_where_it_replaces() -> None:
    def crop(mixes: Tensor) -> Tensor:
        return mixes[..., 2:10, 1:]

    rewritten, _ = rewrite(rewriter(mode="replace", mixed_transform=crop), (images(), LABELS), teacher(), stream=STREAM)
    assert rewritten[0].shape == (4, 3, 8, 11)
    with pytest.raises(
        ValueError, match=r"expected mixed_transform to keep the shape \(3, 12, 12\) .*got \(3, 8, 11\)"
    ):
        rewrite(rewriter(mixed_transform=crop), (images(), LABELS), teacher(), stream=STREAM)


def test_a_view_that_the_teacher_cannot_see_has_the_labels_of_eq_2() -> None:
    mix = MIXER(teacher(), images(), seed=0)
    blind = FrozenTeacher(BlindToMarked(SmoothTeacher().float()))
    viewed = view(mix, lambda mixes: mark(mixes, 1), blind)
    assert viewed.teacher_logits is not None
    torch.testing.assert_close(viewed.teacher_logits[1].softmax(0), mix.soft_targets[1])
    assert viewed.non_finite.tolist() == [False, True, False, False]
    assert viewed.holds is not None
    assert not viewed.holds[1]


@pytest.mark.parametrize(
    ("change", "came"),
    [
        (lambda mixes: mixes[:2], r"\(2, 3, 12, 12\)"),
        (lambda mixes: mixes.flatten(1), r"\(4, 432\)"),
        (lambda mixes: list(mixes), "list"),
        (lambda mixes: mixes.numpy(), "ndarray"),
    ],
)
def test_a_view_that_is_no_batch_of_images(change: Any, came: str) -> None:
    with pytest.raises(ValueError, match=rf"expected mixed_transform to give 4 images \(b, c, h, w\), got {came}"):
        rewrite(rewriter(mixed_transform=change), (images(), LABELS), teacher(), stream=STREAM)


# What does not fit


@pytest.mark.parametrize(
    ("labels", "came"),
    [
        (LABELS[:3], r"4 images and labels of shape \(3,\)"),
        (torch.tensor(3), r"4 images and labels of shape \(\)"),
    ],
)
def test_labels_of_another_length(labels: Tensor, came: str) -> None:
    with pytest.raises(ValueError, match=rf"expected one label an image, got {came}; look at input_key and target_key"):
        rewrite(rewriter(), (images(), labels), teacher(), stream=STREAM)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("mode", ["extend", "replace"])
def test_labels_that_the_teacher_does_not_know(mode: str, known: bool) -> None:
    counting = Counting(SmoothTeacher().float())
    frozen = FrozenTeacher(counting)
    if known:
        frozen(images())
        counting.forwards = 0
    labels = torch.tensor([0, 1, 2, NUM_CLASSES])
    with pytest.raises(ValueError, match=r"expected labels in \[0, 6\).* from 0 to 6; teacher and student must share"):
        rewrite(rewriter(mode=mode), (images(), labels), frozen, stream=STREAM)
    assert not known or counting.forwards == 0


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ((images(), [0, 1, 2, 3]), "expected a tensor behind target_key=1, got list; choose another key, or collate"),
        (([np.zeros(3)], LABELS), "expected a tensor behind input_key=0, got list"),
    ],
)
def test_fields_that_are_no_tensors(batch: Any, expected: str) -> None:
    with pytest.raises(TypeError, match=expected):
        rewrite(rewriter(), batch, teacher(), stream=STREAM)


def test_missing_fields() -> None:
    with pytest.raises(KeyError, match=r"expected the batch to have the field 'y', got a dict with keys \['x'\]"):
        rewrite(rewriter(input_key="x", target_key="y"), {"x": images()}, teacher(), stream=STREAM)


@pytest.mark.parametrize("target_format", ["teacher", "pairs"])
def test_natural_probabilities_beside_formats_of_class_indices(target_format: str) -> None:
    soft = torch.rand(4, NUM_CLASSES).softmax(dim=1)
    with pytest.raises(ValueError, match=r"got torch.float32 of shape \(4, 6\)"):
        rewrite(rewriter(targets=target_format), (images(), soft), teacher(), stream=STREAM)


def test_boolean_labels() -> None:
    with pytest.raises(ValueError, match=r"got torch\.bool"):
        rewrite(rewriter(), (images(), LABELS > 1), teacher(), stream=STREAM)


@pytest.mark.parametrize(
    ("engine", "mixer"),
    [
        (BatchEngine(), SuperMix(mask_size=4, max_steps=3, chunk_size=4)),
        (BatchEngine(), SuperMix.fast(mask_size=4, max_steps=3, chunk_size=4)),
        (BatchEngine(), MixUp(chunk_size=4)),
        (BatchEngine(), CutMix(chunk_size=4)),
        (StreamEngine(reuse=1), SuperMix(mask_size=4, max_steps=3, chunk_size=4)),
        (StreamEngine(reuse=2), SuperMix.fast(mask_size=4, max_steps=3, chunk_size=4)),
        (StreamEngine(), MixUp(chunk_size=4)),
    ],
)
def test_no_pass_of_the_teacher_is_larger_than_a_chunk(engine: Any, mixer: Any) -> None:
    class Seeing(SmoothTeacher):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().forward(images)

    seen: list[int] = []
    seeing = FrozenTeacher(Seeing().float(), fold=False)
    seen.clear()
    writing = rewriter(engine=engine, mixer=mixer, mixed_transform=RandomCropFlip(padding=1))
    for number in range(6):
        rewrite(writing, (images(10), torch.arange(10) % NUM_CLASSES), seeing, stream=(0, 0, number))
    assert max(seen) == 4


def test_labelling_a_view_has_a_second_chance_after_running_out_of_memory() -> None:
    class Small(SmoothTeacher):
        memory = 64

        def forward(self, images: Tensor) -> Tensor:
            if len(images) > self.memory:
                raise torch.OutOfMemoryError("full")
            return super().forward(images)

    mix = MixUp()(teacher(), images(), seed=0)
    small = Small().float()
    small.memory = 3
    with pytest.warns(UserWarning, match="it sees 2 at once from now on"):
        seen = view(mix, lambda mixes: mixes.flip(3), FrozenTeacher(small, fold=False))
    expected = view(mix, lambda mixes: mixes.flip(3), teacher())
    torch.testing.assert_close(seen.teacher_logits, expected.teacher_logits)
