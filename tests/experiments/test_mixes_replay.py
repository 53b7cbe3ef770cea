"""Training on kept images: which ones a batch gets, what they are labelled with, whose chance that takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supermix_pl import FrozenTeacher, SuperMixCallback
from supermix_pl.experiments.mixes import FixedMixes, Plan, ReplayEngine
from supermix_pl.rewriting import BatchRewriter
from supermix_pl.transforms import RandomCropFlip
from tests.experiments.mixes_toys import MIXER, SIZE, data_of, make, teacher_of

COUNT, BATCH = 12, 4
STATISTICS: dict[str, Any] = {"mean": (0.5, 0.4, 0.45), "std": (0.25, 0.2, 0.3)}
VIEW = RandomCropFlip(padding=2)


@pytest.fixture(scope="module")
def mixes(tmp_path_factory: pytest.TempPathFactory) -> FixedMixes:
    folder = tmp_path_factory.mktemp("replayed")
    make(folder, plan=Plan(size=COUNT, shard_size=5, batch_size=4, seed=1))
    return FixedMixes(folder)


def external() -> np.ndarray:
    """Images that tell their number at once."""
    images = np.random.default_rng(1).integers(0, 200, (COUNT, 3, SIZE, SIZE), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(COUNT)
    return images


def engine_of(images: Any, view: Any = None) -> ReplayEngine:
    return ReplayEngine(images, **STATISTICS, batch_size=BATCH, view=view)


def give(engine: ReplayEngine, number: int, *, seed: int = 0, rank: int = 0, count: int = BATCH, **options: Any) -> Any:
    natural = torch.zeros(count, 3, SIZE, SIZE, **options)
    teacher = teacher_of()
    return engine.mix(MIXER, teacher, natural, torch.zeros(count, dtype=torch.long), seed=(0, seed, rank, number))


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
    engine = engine_of(external(), VIEW)
    straight = [give(engine, number) for number in range(5)]
    again = give(engine_of(external(), VIEW), 4)
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
    logits = torch.cat([mix.teacher_logits for mix in given]).numpy()
    np.testing.assert_allclose(logits, kept.teacher_logits[order], atol=1e-5)
    masks = torch.cat([mix.masks for mix in given])
    assert masks.shape == (COUNT, 2, SIZE, SIZE)
    torch.testing.assert_close(masks[:, :, ::2, ::2], torch.from_numpy(kept.masks[order]).float())
    targets = np.zeros((COUNT, 3), dtype=np.float32)
    for source in range(2):
        np.add.at(
            targets, (np.arange(COUNT), kept.source_classes[order][:, source]), kept.mix_weights[order][:, source]
        )
    np.testing.assert_allclose(torch.cat([mix.soft_targets for mix in given]).numpy(), targets, atol=1e-6)
    assert all((mix.teacher_forwards, mix.teacher_backwards) == (BATCH, 0) for mix in given)


def test_external_images_have_the_teachers_class() -> None:
    mix = give(engine_of(external()), 0)
    classes = mix.teacher_logits.argmax(dim=1)
    assert torch.equal(mix.source_classes, classes[:, None])
    assert torch.equal(mix.soft_targets.argmax(dim=1), classes)
    assert torch.equal(mix.soft_targets.sum(dim=1), torch.ones(BATCH))
    assert bool(mix.solved.all())


@pytest.mark.parametrize("of_mixes", [False, True], ids=["external", "mixes"])
def test_the_labels_are_the_teachers_of_the_very_view(mixes: FixedMixes, of_mixes: bool) -> None:
    images = mixes if of_mixes else external()
    mix = give(engine_of(images, VIEW), 0)
    assert not torch.equal(mix.images, give(engine_of(images), 0).images)
    torch.testing.assert_close(mix.teacher_logits, teacher_of()(mix.images))


def test_a_view_leaves_the_global_generators_as_they_were() -> None:
    def chance() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), str(np.random.get_state())  # noqa: NPY002

    engine = engine_of(external(), VIEW)
    torch.manual_seed(3)
    before = chance()
    first = give(engine, 0)
    assert chance() == before
    torch.manual_seed(4)
    assert torch.equal(give(engine, 0).images, first.images)


def test_the_images_take_the_dtype_of_the_batch() -> None:
    assert give(engine_of(external()), 0, dtype=torch.bfloat16).images.dtype == torch.bfloat16


def test_in_a_training_batch_they_stand_behind_the_natural_images(mixes: FixedMixes) -> None:
    teacher = teacher_of()
    callback = SuperMixCallback(teacher, MIXER, engine=engine_of(mixes, VIEW))
    rewriter = callback._rewriter
    assert isinstance(rewriter, BatchRewriter)
    data = data_of()
    images, labels = next(iter(data.train_dataloader()))
    (student_images, student_labels), mix = rewriter.rewrite((images, labels), teacher, stream=(0, 0, 0))
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
