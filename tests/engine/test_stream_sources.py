"""Sources that are given once and for all, in place of earlier batches."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch.utils.data import DataLoader, Dataset, TensorDataset

from supermix_pl import CutMix, FrozenTeacher, MixUp, OneOf, StreamEngine, SuperMix, SuperMixCallback
from supermix_pl.mixing import Mixer
from supermix_pl.transforms import RandomCropFlip
from tests.engine.streams import batch_of
from tests.problems import BlindToMarked, Counting, FlatTeacher, mark

SIZE = 6
SOURCES = batch_of(99, 20)[0]
FAST = SuperMix.fast(mask_size=4, max_steps=3)
MIXERS: dict[str, Mixer] = {"solved": FAST, "mixup": MixUp(), "one of two": OneOf([MixUp(), CutMix()])}
pytestmark = pytest.mark.usefixtures("unchecked")


def run(engine: StreamEngine, mixer: Mixer, teacher: FrozenTeacher, steps: int) -> list[torch.Tensor]:
    """Return the sources of the mixes of each step, (b, k, c, h, w)."""
    engine.check(mixer)
    found = []
    for step in range(steps):
        images, labels = batch_of(step, SIZE)
        mix = engine.mix(mixer, teacher, images, labels, seed=(0, step), view=RandomCropFlip(padding=1))
        assert mix.holds is not None
        assert engine._state.images is not None
        assert engine._state.places is not None
        found.append(engine._state.images.at(engine._state.places))
    return found


@pytest.mark.parametrize("name", MIXERS)
def test_mixes_are_of_the_sources_alone(name: str) -> None:
    engine = StreamEngine(reuse=2, sources=SOURCES, store_bytes=200_000)
    shown = torch.cat(run(engine, MIXERS[name], FrozenTeacher(FlatTeacher()), 25)).flatten(0, 1).flatten(1)
    distances = torch.cdist(shown, SOURCES.flatten(1))
    assert (distances.amin(dim=1) < 0.2).all()  # of 8 bits
    assert len(distances.argmin(dim=1).unique()) == len(SOURCES)


def test_their_classes_cost_a_pass_each_once() -> None:
    module = Counting(FlatTeacher())
    engine = StreamEngine(reuse=3, sources=SOURCES)
    teacher = FrozenTeacher(module, fold=False)
    engine.check(FAST)
    images, labels = batch_of(0, SIZE)
    counted = []
    for step in range(3):
        before = module.forwards
        mix = engine.mix(FAST, teacher, images, labels, seed=step)
        counted.append((mix.teacher_forwards, module.forwards - before))
    assert all(told in (passed, passed - 1) for told, passed in counted)  # the first pass counts the classes
    assert counted[0][0] - counted[1][0] == len(SOURCES)


def test_what_the_teacher_cannot_see_is_no_source() -> None:
    sources = mark(SOURCES.clamp(-1, 1), 3, 4)
    engine = StreamEngine(sources=sources)
    run(engine, FAST, FrozenTeacher(BlindToMarked(FlatTeacher()), fold=False), 1)
    assert engine._state.images is not None
    assert len(engine._state.images.ring) == len(SOURCES) - 2


def test_copies_keep_them() -> None:
    engine = StreamEngine(sources=SOURCES)
    assert "sources=<(20, 3, 8, 8)>" in repr(engine)
    for other in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        assert other.sources is not None
        assert other.sources.equal(SOURCES)


def test_a_resumed_run_goes_on() -> None:
    teacher = FrozenTeacher(FlatTeacher())
    whole = run(StreamEngine(reuse=3, sources=SOURCES), FAST, teacher, 6)
    first = StreamEngine(reuse=3, sources=SOURCES)
    run(first, FAST, teacher, 4)
    second = StreamEngine(reuse=3, sources=SOURCES)
    second.check(FAST)
    second.load_state_dict(first.state_dict())
    second.load_tensors(first.tensors())
    for step in (4, 5):
        images, labels = batch_of(step, SIZE)
        second.mix(FAST, teacher, images, labels, seed=(0, step), view=RandomCropFlip(padding=1))
        assert second._state.images is not None
        assert second._state.places is not None
        assert second._state.images.at(second._state.places).equal(whole[step])


@pytest.mark.parametrize("images", [TensorDataset(SOURCES, torch.arange(20)), list(SOURCES), SOURCES])
def test_a_data_set_of_sources(images: Any) -> None:
    engine = StreamEngine(sources=images)
    assert engine.sources is not None
    assert engine.sources.equal(SOURCES)
    assert "sources=<(20, 3, 8, 8)>" in repr(engine)


def test_a_data_set_of_sources_by_its_class_path(tmp_path: Path) -> None:
    """As LightningCLI takes it."""
    to_tensor = {"class_path": "torchvision.transforms.ToTensor"}
    options = {"size": 4, "image_size": [3, 8, 8], "transform": to_tensor}
    data = {"class_path": "torchvision.datasets.FakeData", "init_args": options}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"engine": {"sources": data}}))
    parser = ArgumentParser()
    parser.add_class_arguments(StreamEngine, "engine")
    parser.add_argument("--config", action="config")
    engine = parser.instantiate(parser.parse_args([f"--config={config}"])).engine
    assert engine.sources.shape == (4, 3, 8, 8)


class Endless(Dataset[torch.Tensor]):
    """More images than there is room for; reading a second one takes too long."""

    def __len__(self) -> int:
        return 2 * 10**6

    def __getitem__(self, place: int) -> torch.Tensor:
        assert place == 0
        return SOURCES[0]


def test_a_data_set_without_room_is_not_read() -> None:
    bytes_each = 3 * 8 * 8 + 2 * 3 * 4 + 8
    message = (
        f"a store that holds all 2000000 sources, {bytes_each * 2 * 10**6} bytes, got store_bytes=268435456; raise it"
    )
    with pytest.raises(ValueError, match=message):
        StreamEngine(sources=Endless())
    engine = StreamEngine(sources=TensorDataset(SOURCES), store_bytes=20 * bytes_each)
    assert engine.sources is not None


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (SOURCES[0], r"expected sources of shape \(n, c, h, w\), n >= 1, got \(3, 8, 8\)"),
        (SOURCES[:0], r"expected sources of shape \(n, c, h, w\), n >= 1, got \(0, 3, 8, 8\)"),
        (SOURCES.byte(), "expected floating point sources, normalised as the batches are, got torch.uint8"),
        ([SOURCES], r"expected sources of shape \(n, c, h, w\), n >= 1, got \(1, 20, 3, 8, 8\)"),
        ([], r"expected sources of shape \(n, c, h, w\), n >= 1, got \(0,\)"),
        ([SOURCES[0], SOURCES[1][:, :4]], r"expected sources of one size, got \(3, 8, 8\) and \(3, 4, 8\)"),
        ([SOURCES[0], (1, SOURCES[1])], "begin with one, got an item of type tuple with int first; normalise"),
        ([SOURCES[0].numpy()], "whose items are images as tensors .* got an item of type ndarray; normalise"),
        ({0: SOURCES[0]}, "expected sources as a tensor .* or a data set with a length, .* got dict"),
        (DataLoader(TensorDataset(SOURCES)), "or a data set with a length, .* got DataLoader"),
    ],
)
def test_what_are_no_sources(sources: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        StreamEngine(sources=sources)  # pyright: ignore[reportArgumentType]


def test_sources_without_room() -> None:
    needed = 20 * (3 * 8 * 8 + 2 * 3 * 4 + 8)
    with pytest.raises(ValueError, match=f"all 20 sources, {needed} bytes, got store_bytes={needed - 1}; raise it"):
        StreamEngine(sources=SOURCES, store_bytes=needed - 1)
    engine = StreamEngine(sources=SOURCES, store_bytes=needed)
    run(engine, MixUp(), FrozenTeacher(FlatTeacher()), 1)
    with pytest.raises(ValueError, match="a store that holds 20 sources and a batch of solved sets"):
        run(engine, FAST, FrozenTeacher(FlatTeacher()), 1)


@pytest.mark.parametrize("mixer", [FAST, MixUp()])
def test_sources_without_room_beside_batches_of_a_larger_dtype(mixer: Mixer) -> None:
    engine = StreamEngine(sources=SOURCES, store_bytes=20 * (3 * 8 * 8 + 2 * 3 * 4 + 8))
    images, labels = batch_of(0, SIZE)
    with pytest.raises(ValueError, match=r"expected a store that holds .*20 sources"):
        engine.mix(mixer, FrozenTeacher(FlatTeacher().double()), images.double(), labels, seed=0)


@pytest.mark.parametrize("mixer", [FAST, MixUp()])
def test_sources_that_do_not_fit(mixer: Mixer) -> None:
    images, labels = batch_of(0, SIZE)
    engine = StreamEngine(sources=SOURCES[:, :, :4])
    engine.check(mixer)
    message = r"expected sources of the batches' shape \(3, 8, 8\), got \(3, 4, 8\)"
    with pytest.raises(ValueError, match=message):
        engine.mix(mixer, FrozenTeacher(FlatTeacher()), images, labels, seed=0)


def test_sources_without_a_teacher() -> None:
    with pytest.raises(ValueError, match=r"a teacher for StreamEngine\(.*sources=.*\), whose sources have no labels"):
        SuperMixCallback(None, MixUp(num_classes=5), targets="soft", engine=StreamEngine(sources=SOURCES))


def test_labels_beside_sources() -> None:
    with pytest.raises(ValueError, match='expected classes="teacher" beside sources'):
        StreamEngine(sources=SOURCES).check(SuperMix(classes="labels"))
