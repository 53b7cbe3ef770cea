"""Training on kept images: which ones a batch gets, what they are labelled with, whose chance that takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from supermix_pl import FrozenTeacher, SuperMixCallback
from supermix_pl.experiments.data.pixels import Normalisation
from supermix_pl.experiments.mixes import FixedMixes, MisplacedMixes, Plan, ReplayEngine
from supermix_pl.trainer.rewriting import BatchRewriter
from supermix_pl.transforms import RandomCropFlip
from tests.experiments.mixes.mixes_toys import MIXER, SIZE, data_of, make, teacher_of

COUNT, BATCH = 12, 4
STATISTICS: dict[str, Any] = {"mean": (0.5, 0.4, 0.45), "std": (0.25, 0.2, 0.3)}
VIEW = RandomCropFlip(padding=2)


@pytest.fixture(scope="module")
def mixes(tmp_path_factory: pytest.TempPathFactory) -> FixedMixes:
    folder = tmp_path_factory.mktemp("replayed")
    make(folder, plan=Plan(size=COUNT, batch_size=4, seed=1))
    return FixedMixes(folder)


def external() -> np.ndarray:
    """Images that tell their number at once."""
    images = np.random.default_rng(1).integers(0, 200, (COUNT, 3, SIZE, SIZE), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(COUNT)
    return images


def engine_of(images: Any) -> ReplayEngine:
    return ReplayEngine(images, normalisation=Normalisation(**STATISTICS), batch_size=BATCH)


def give(
    engine: ReplayEngine,
    number: int,
    view: Any = None,
    *,
    seed: int = 0,
    rank: int = 0,
    count: int = BATCH,
    **options: Any,
) -> Any:
    natural = torch.zeros(count, 3, SIZE, SIZE, **options)
    labels = torch.zeros(count, dtype=torch.long)
    return engine.mix(MIXER, teacher_of(), natural, labels, seed=(0, seed, rank, number), view=view)


def pixels_of(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in STATISTICS.values())
    return ((images * std + mean) * 255).round()


def numbers(engine: ReplayEngine, batches: range, **options: Any) -> list[int]:
    """The external images that batches get."""
    given = [pixels_of(give(engine, number, **options).images)[:, 0, 0, 0] for number in batches]
    return torch.cat(given).int().tolist()


def test_every_pass_uses_every_image_once_in_an_order_of_its_own() -> None:
    engine = engine_of(external())
    passes = [numbers(engine, range(start, start + 3)) for start in (0, 3, 6)]
    assert all(sorted(order) == list(range(COUNT)) for order in passes)
    assert len({tuple(order) for order in passes}) == 3


def test_ranks_and_seeds_have_orders_of_their_own() -> None:
    engine = engine_of(external())
    orders = [numbers(engine, range(3), seed=seed, rank=rank) for seed, rank in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert len({tuple(order) for order in orders}) == 4


def test_a_batch_is_a_function_of_its_number() -> None:
    engine = engine_of(external())
    straight = [give(engine, number, VIEW) for number in range(5)]
    again = give(engine_of(external()), 4, VIEW)
    assert torch.equal(straight[4].images, again.images)
    assert torch.equal(straight[4].teacher_logits, again.teacher_logits)
    assert not torch.equal(straight[3].images, again.images)


def test_a_smaller_batch_leaves_its_places_empty() -> None:
    engine = engine_of(external())
    whole = numbers(engine, range(3))
    small = numbers(engine, range(1), count=3) + numbers(engine, range(1, 3))
    assert small == whole[:3] + whole[4:]


def test_fixed_mixes_come_with_what_was_kept_of_them(mixes: FixedMixes) -> None:
    given = [give(engine_of(mixes), number) for number in range(3)]
    images = torch.cat([pixels_of(mix.images) for mix in given]).byte().numpy()
    kept = mixes.take(np.arange(COUNT))
    order = [int(np.flatnonzero((kept.images == image).all(axis=(1, 2, 3)))[0]) for image in images]
    assert sorted(order) == list(range(COUNT))
    for name in ("mix_weights", "source_classes", "solved", "num_steps"):
        found = torch.cat([getattr(mix, name) for mix in given]).numpy()
        np.testing.assert_array_equal(found, getattr(kept, name)[order], err_msg=name)
    masks = torch.cat([mix.masks for mix in given])
    assert masks.shape == (COUNT, 2, SIZE, SIZE)
    torch.testing.assert_close(masks[:, :, ::2, ::2], torch.from_numpy(kept.masks[order]).float())
    targets = np.zeros((COUNT, 3), dtype=np.float32)
    for source in range(2):
        np.add.at(
            targets, (np.arange(COUNT), kept.source_classes[order][:, source]), kept.mix_weights[order][:, source]
        )
    np.testing.assert_allclose(torch.cat([mix.soft_targets for mix in given]).numpy(), targets, atol=1e-6)
    assert all((mix.teacher_forwards, mix.label_forwards, mix.teacher_backwards) == (BATCH, BATCH, 0) for mix in given)
    assert all(mix.holds is None for mix in given)  # nothing was shown under a view


def test_external_images_have_the_teachers_class() -> None:
    mix = give(engine_of(external()), 0)
    classes = mix.teacher_logits.argmax(dim=1)
    assert torch.equal(mix.source_classes, classes[:, None])
    assert torch.equal(mix.soft_targets.argmax(dim=1), classes)
    assert torch.equal(mix.soft_targets.sum(dim=1), torch.ones(BATCH))
    assert bool(mix.solved.all())
    viewed = give(engine_of(external()), 0, VIEW)
    assert torch.equal(viewed.source_classes[:, 0], viewed.teacher_logits.argmax(dim=1))
    assert viewed.holds is None  # they have no sources


@pytest.mark.parametrize("of_mixes", [False, True], ids=["external", "mixes"])
@pytest.mark.parametrize("view", [VIEW, lambda images: images.flip(3)], ids=["own", "foreign"])
def test_the_labels_are_the_teachers_of_the_very_view(mixes: FixedMixes, of_mixes: bool, view: Any) -> None:
    engine = engine_of(mixes if of_mixes else external())
    mix = give(engine, 0, view)
    plain = give(engine, 0)
    assert not torch.equal(mix.images, plain.images)
    torch.testing.assert_close(mix.teacher_logits, teacher_of()(mix.images))
    assert not torch.allclose(mix.teacher_logits, plain.teacher_logits, atol=0.1)
    if of_mixes:
        pairs = mix.source_classes.sort(dim=1).values
        found = teacher_of()(mix.images).topk(2).indices.sort(dim=1).values
        assert torch.equal(mix.holds, (pairs == found).all(dim=1) & (pairs[:, 0] != pairs[:, 1]))


def test_a_view_leaves_the_global_generators_as_they_were() -> None:
    def chance() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), str(np.random.get_state())  # noqa: NPY002

    def noisy(images: Tensor) -> Tensor:
        return images + torch.randn_like(images)

    engine = engine_of(external())
    for view in (VIEW, noisy):
        torch.manual_seed(3)
        before = chance()
        first = give(engine, 0, view)
        assert chance() == before
        torch.manual_seed(4)
        assert torch.equal(give(engine, 0, view).images, first.images)


def test_the_images_take_the_dtype_of_the_batch() -> None:
    mix = give(engine_of(external()), 0, dtype=torch.bfloat16)
    assert mix.images.dtype == torch.bfloat16
    torch.testing.assert_close(mix.teacher_logits, teacher_of()(mix.images.float()))  # as they are rounded


def test_in_a_training_batch_they_stand_behind_the_natural_images(mixes: FixedMixes) -> None:
    teacher = teacher_of()
    callback = SuperMixCallback(teacher, MIXER, engine=engine_of(mixes), mixed_transform=VIEW)
    rewriter = callback._rewriter
    assert isinstance(rewriter, BatchRewriter)
    data = data_of()
    images, labels = next(iter(data.train_dataloader()))
    rewritten = rewriter.rewrite((images, labels), teacher, stream=(0, 0, 0))
    (student_images, student_labels), mix = rewritten.batch, rewritten.mix
    assert mix is not None
    assert torch.equal(student_images, torch.cat([images, mix.images]))
    assert torch.equal(student_labels, torch.cat([labels, teacher(mix.images).argmax(dim=1)]))
    assert (mix.source_indices == -1).all()  # they are no mixes of this batch


def test_a_teacher_of_other_input_statistics_labels_the_same_images(mixes: FixedMixes) -> None:
    """The engine normalises as the batches are; the teacher brings them into its own statistics."""
    own = FrozenTeacher(
        teacher_of().module, mean=(0.1,) * 3, std=(0.9,) * 3, input_mean=STATISTICS["mean"], input_std=STATISTICS["std"]
    )
    natural = torch.zeros(BATCH, 3, SIZE, SIZE)
    mix = engine_of(mixes).mix(MIXER, own, natural, None, seed=(0, 0, 0, 0))
    raw = (pixels_of(mix.images) / 255 - 0.1) / 0.9
    torch.testing.assert_close(mix.teacher_logits, teacher_of()(raw), atol=1e-5, rtol=1e-5)


def test_mixes_are_found_in_a_folder_of_the_home(mixes: FixedMixes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(mixes.folder.parent))
    assert FixedMixes(Path("~") / mixes.folder.name).folder == mixes.folder


def test_a_control_lays_the_masks_on_other_images(mixes: FixedMixes) -> None:
    data = data_of()
    control = MisplacedMixes(mixes, data, seed=0)
    assert len(control) == len(mixes)
    order = np.array([7, 0, 11, 3])
    kept, found, other = mixes.take(order), control.take(order), MisplacedMixes(mixes, data, seed=1).take(order)
    source, samples = data.training_samples()
    pixels = source.images[samples]  # pyright: ignore[reportAttributeAccessIssue]
    assert (found.source_indices != kept.source_indices).all()
    assert not np.array_equal(found.source_indices, other.source_indices)
    np.testing.assert_array_equal(found.source_classes, source.labels[samples][found.source_indices])
    np.testing.assert_array_equal(found.masks, kept.masks)
    np.testing.assert_array_equal(found.mix_weights, kept.mix_weights)
    masks = interpolate(torch.from_numpy(kept.masks).float(), (SIZE, SIZE), mode="bilinear").numpy()
    mixed = (masks[:, :, None] * pixels[found.source_indices]).sum(axis=1)
    assert np.abs(found.images - mixed).max() <= 0.75
    np.testing.assert_array_equal(control.take(order[::-1]).images, found.images[::-1])


def test_masks_on_their_own_images_give_the_mixes_back(mixes: FixedMixes, monkeypatch: pytest.MonkeyPatch) -> None:
    control = MisplacedMixes(mixes, data_of(), seed=0)
    monkeypatch.setattr(control, "sources_of", lambda indices: mixes.take(indices).source_indices)
    order = np.arange(COUNT)
    difference = np.abs(control.take(order).images.astype(float) - mixes.take(order).images)
    assert difference.mean() < 5  # of 255: what the coarse grid loses


def test_a_control_wants_the_images_of_its_mixes(mixes: FixedMixes) -> None:
    with pytest.raises(ValueError, match="expected mixes of the 9 training images, at least 2, got those of 11"):
        MisplacedMixes(mixes, data_of(images_per_class=3), seed=0)
