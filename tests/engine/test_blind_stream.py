"""The stream of mixers that draw their masks without looking: earlier images, fresh weights, labels of the view."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supermix_pl import CutMix, FMix, FrozenTeacher, MixUp, OneOf, SaliencyMix
from supermix_pl.engine import Run, StreamEngine
from supermix_pl.engine.stream.images import image_bytes
from supermix_pl.solver import Outcome
from supermix_pl.solver.criterion import class_membership, margin
from supermix_pl.solver.masks import mix_images
from supermix_pl.transforms import RandomCropFlip
from tests.engine.streams import SIZE, batch_of, counting_teacher, named_batch, names_of, odd_sizes, run, teacher_of
from tests.problems import NUM_CLASSES, BlindToMarked, FlatTeacher, mark

unchecked = pytest.mark.usefixtures("unchecked")
MIXERS: list[Any] = [
    MixUp(),
    MixUp(k=3, alpha=0.3, pairing="random"),
    CutMix(),
    CutMix(k=3, pairing="distinct"),
    OneOf([MixUp(), FMix(), SaliencyMix()], weights=[0.5, 0.25, 0.25]),
]
each_mixer = pytest.mark.parametrize("mixer", MIXERS, ids=repr)


def sources_of(engine: StreamEngine) -> Tensor:
    assert engine._state.images is not None
    assert engine._state.places is not None
    return engine._state.images.at(engine._state.places)


@unchecked
def test_a_picture_shows_the_sources_of_a_full_store_too() -> None:
    """The batch takes the places of the oldest images, which the mixes beside it may show."""
    room = image_bytes(named_batch(0)[0]) * 2 * SIZE
    engine = StreamEngine(store_bytes=room, default_transform=None)

    def watch(step: int, mix: Any) -> None:
        sources, shown = engine.to_show(mix.images, mix)
        torch.testing.assert_close(
            shown.images, mix_images(sources[shown.source_indices], shown.masks), atol=0.1, rtol=0
        )

    run(engine, 8, MixUp(), batch=named_batch, watch=watch)


@each_mixer
@unchecked
def test_sources_are_never_of_the_batch_beside_them_but_in_the_first_step(mixer: Any) -> None:
    engine = StreamEngine(default_transform=None)
    steps = 40
    found: list[set[int]] = []
    masks: list[Tensor] = []

    def watch(step: int, mix: Any) -> None:
        if step:  # behind the mixing the batch takes the places of the oldest images, of which there are enough here
            sources = sources_of(engine)
            numbers = sources[:, :, 0, 0, 0].round().long()
            torch.testing.assert_close(mix.images, mix_images(sources, mix.masks), atol=1e-2, rtol=1e-4)
            assert mix.source_classes.equal(numbers % NUM_CLASSES)
            assert all(len(set(row)) == mixer.k for row in numbers.tolist())
            found.append(set(numbers.flatten().tolist()))
        masks.append(mix.masks)
        torch.testing.assert_close(mix.masks.sum(dim=1), torch.ones(len(mix), 8, 8))
        torch.testing.assert_close(mix.mix_weights.float(), mix.masks.mean(dim=(2, 3)), atol=1e-5, rtol=1e-4)
        weights = torch.zeros_like(mix.soft_targets).scatter_add(1, mix.source_classes, mix.mix_weights)
        torch.testing.assert_close(mix.soft_targets, weights)
        assert mix.source_indices.eq(-1).all()
        assert mix.num_steps.eq(0).all()

    run(engine, steps, mixer, batch=named_batch, watch=watch, view=None)
    for step, numbers in enumerate(found, start=1):
        assert max(numbers) < step * SIZE
    late = set.union(*found[20:])
    assert len(late) > 200  # all that were seen in the last batches, evenly
    assert min(late) < 5 * SIZE < 30 * SIZE < max(late)
    if mixer.pairing == "distinct":
        assert all(len(set(row)) == mixer.k for row in run(engine, [steps], mixer).mixes[0].source_classes.tolist())


@each_mixer
def test_the_teacher_passes_the_mixes_and_nothing_else(mixer: Any) -> None:
    counting, teacher = counting_teacher()
    ran = run(StreamEngine(), 5, mixer, teacher)
    assert counting.forwards == 5 * SIZE + 1  # n has to be asked for once
    assert [mix.teacher_forwards for mix in ran.mixes] == [SIZE + 1, *[SIZE] * 4]
    assert [mix.label_forwards for mix in ran.mixes] == [SIZE] * 5
    assert counting.backwards == sum(mix.teacher_backwards for mix in ran.mixes) == 0
    assert ran.engine.plan is None


@each_mixer
@pytest.mark.parametrize(
    "view", [None, RandomCropFlip(padding=1), lambda mixes: mixes.roll(int(torch.randint(8, ())), 3)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_of_what_is_shown(mixer: Any, view: Any, dtype: torch.dtype) -> None:
    def batch(step: int, size: int) -> tuple[Tensor, Tensor]:
        images, labels = batch_of(step, size)
        return images.to(dtype), labels

    ran = run(StreamEngine(), 6, mixer, batch=batch, view=view)
    for mix in ran.mixes:
        assert mix.images.dtype == dtype
        assert mix.teacher_logits is not None
        torch.testing.assert_close(mix.teacher_logits, FlatTeacher()(mix.images.float()).detach(), atol=1e-4, rtol=1e-4)
        holding = margin(mix.teacher_logits, class_membership(mix.source_classes, NUM_CLASSES)) > 0
        assert mix.solved.equal(holding)
        assert (mix.holds is None) == (view is None)
        assert mix.holds is None or mix.holds.equal(holding)


@unchecked
def test_weights_are_fresh_in_every_step_and_mixes_are_of_other_pairs() -> None:
    ran = run(StreamEngine(default_transform=None), 30, MixUp(alpha=1.0), batch=named_batch, view=None)
    names = [name for mix in ran.mixes for name in names_of(mix)]
    assert len(set(names)) == len(names)
    first = torch.cat([mix.mix_weights[:, 0] for mix in ran.mixes])
    assert first.mean().item() == pytest.approx(1 / 2, abs=0.06)
    assert first.var().item() == pytest.approx(1 / 12, rel=0.2)  # uniform
    pairs = {tuple(row) for places in ran.places for row in places.tolist()}
    assert len(pairs) > 0.95 * len(names)


@pytest.mark.parametrize(("weights", "share"), [(None, 0.5), ([1, 3], 0.75), ([0, 1], 1.0)])
@unchecked
def test_one_of_several_is_drawn_a_row(weights: list[float] | None, share: float) -> None:
    mixer = OneOf([MixUp(k=3), CutMix(k=3)], weights=weights)
    ran = run(StreamEngine(), 40, mixer)
    cut = torch.cat([(mix.masks * (1 - mix.masks)).flatten(1).eq(0).all(dim=1) for mix in ran.mixes])
    assert cut.double().mean().item() == pytest.approx(share, abs=0.08)
    if 0 < share < 1:
        assert any(0 < row.double().mean() < 1 for row in cut.view(40, -1))  # within a batch
    assert ran.mixes[-1].masks.shape == (SIZE, 3, 8, 8)


@each_mixer
def test_without_a_teacher(mixer: Any) -> None:
    known = mixer.with_classes(9)
    engine = StreamEngine()
    ran = run(engine, 5, known, blind=True)
    for mix in ran.mixes:
        assert (mix.teacher_logits, mix.holds, mix.natural_logits) == (None, None, None)
        assert (mix.teacher_forwards, mix.label_forwards) == (0, 0)
        assert mix.soft_targets.shape == (SIZE, 9)
        assert mix.outcomes.eq(Outcome.CAPPED).all()
    with pytest.raises(ValueError, match="expected num_classes where there is no teacher to tell it"):
        run(StreamEngine(), 1, mixer, blind=True)


def test_without_labels_the_classes_are_the_teachers() -> None:
    engine, teacher = StreamEngine(default_transform=None), teacher_of()
    for step in range(4):
        mix = engine.mix(MixUp(), teacher, named_batch(step)[0], None, seed=(0, step))
        assert mix.natural_logits is not None
        torch.testing.assert_close(mix.natural_logits, teacher(named_batch(step)[0]))
    sources = sources_of(engine)
    assert mix.source_classes.equal(teacher(sources.flatten(0, 1)).argmax(dim=1).view(SIZE, 2))  # pyright: ignore


def test_views_that_the_teacher_cannot_see_carry_the_labels_of_the_sources() -> None:
    teacher = teacher_of(BlindToMarked(FlatTeacher()))

    def batch(step: int, size: int) -> tuple[Tensor, Tensor]:
        images, labels = batch_of(step, size)
        return mark(images, 3), labels

    ran = run(StreamEngine(), 12, MixUp(), teacher, batch=batch, view=None)
    lost = torch.cat([mix.non_finite for mix in ran.mixes])
    assert 4 < lost.sum() < 0.2 * len(lost)
    for mix in ran.mixes:
        assert mix.teacher_logits is not None
        gone = mix.non_finite
        assert gone.equal(mix.images[:, 0, 0, 0] > 1)
        torch.testing.assert_close(mix.teacher_logits[gone].softmax(dim=1), mix.soft_targets[gone])
        assert not mix.solved[gone].any()


@unchecked
def test_the_store_keeps_its_bound() -> None:
    bytes_an_image = image_bytes(batch_of(0)[0])
    store_bytes = 100 * bytes_an_image + 7
    engine = StreamEngine(store_bytes=store_bytes, default_transform=None)
    found: list[set[int]] = []
    ran = run(
        engine, 30, MixUp(), batch=named_batch, view=None,
        watch=lambda step, mix: found.append(set((mix.images[:, 0, 0, 0]).long().tolist())),
    )  # fmt: skip
    assert [metrics["stored"] for metrics in ran.metrics] == [min(SIZE * (step + 1), 100) for step in range(30)]
    assert max(metrics["store_bytes"] for metrics in ran.metrics) <= store_bytes
    for step, mixed in enumerate(found[1:], start=1):  # an average of two lies between them
        assert min(mixed) >= step * SIZE - 100
    tiny = StreamEngine(store_bytes=1)
    with pytest.warns(UserWarning, match="a batch of 1 images is smaller than k=2"):
        assert len(run(tiny, 3, MixUp()).mixes[-1]) == SIZE


def test_odd_batches() -> None:
    with pytest.warns(UserWarning, match=r"a batch of [12] images is smaller than k=3: its sets have [12] sources"):
        ran = run(StreamEngine(), 12, MixUp(k=3), sizes=[1, 1, 1, *odd_sizes(9)])
    assert [mix.mix_weights.shape[1] for mix in ran.mixes[:4]] == [1, 1, 2, 3]


@pytest.mark.parametrize("saved_at", [1, 2, 7])
@each_mixer
@unchecked
def test_saved_and_loaded_goes_on_to_the_bit(mixer: Any, saved_at: int) -> None:
    options: dict[str, Any] = {"store_bytes": 60 * image_bytes(batch_of(0)[0])}
    whole = run(StreamEngine(**options), 12, mixer)
    first, second = StreamEngine(**options), StreamEngine(**options)
    run(first, saved_at, mixer)
    second.check(mixer)
    second.begin(Run())
    second.load_state_dict(first.state_dict())
    second.load_tensors({name: value.clone() for name, value in first.tensors().items()})
    resumed = run(second, range(saved_at, 12), mixer)
    for mix, expected in zip(resumed.mixes, whole.mixes[saved_at:], strict=True):
        for name in ("images", "masks", "teacher_logits", "mix_weights", "soft_targets"):
            assert getattr(mix, name).equal(getattr(expected, name)), name


def test_images_keep_to_8_bits() -> None:
    teacher = FrozenTeacher(FlatTeacher(), fold=False)
    engine = StreamEngine(default_transform=None)
    images = [batch_of(step)[0] for step in range(3)]
    for step in range(3):
        mix = engine.mix(MixUp(k=1), teacher, *batch_of(step), seed=(0, step))
    known = torch.cat(images[:2])
    distance = torch.stack([(known - image).abs().amax(dim=(1, 2, 3)).amin() for image in mix.images])  # pyright: ignore
    span = (known.amax() - known.amin()).item()
    assert 0 < distance.max() <= span / 255
    assert np.isfinite(distance.numpy()).all()
