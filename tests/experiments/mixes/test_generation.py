"""Making fixed mixes: what is kept of them, what a stop or a second process leaves, what is refused."""

import errno
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

from supermix_pl import CutMix, MixedBatch, MixUp, SuperMix
from supermix_pl.experiments.mixes import FixedMixes, Mixes, Plan, generate, generation
from supermix_pl.experiments.mixes.description import describe, keep_description, source_order
from supermix_pl.experiments.mixes.shards import shard_path
from supermix_pl.mixing import Mixer
from supermix_pl.mixing.views import Transform
from supermix_pl.transforms import RandomCropFlip
from tests.experiments.mixes.mixes_toys import MIXER, NUM_TRAIN, PLAN, SIZE, data_of, make, shard_bytes, teacher_of
from tests.killing import small_disk

UNDER_VIEWS = SuperMix.fast(mask_size=4, max_steps=3)


@dataclass(frozen=True)
class Failing(Mixer):
    """Makes some batches, then fails; to those who ask it looks like the mixer."""

    mixer: Mixer
    batches: int
    made: list[int] = field(default_factory=list)

    def __call__(self, *arguments: Any, **options: Any) -> MixedBatch:
        if len(self.made) == self.batches:
            raise KeyboardInterrupt
        self.made.append(len(self.made))
        return self.mixer(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.mixer, name)

    def __repr__(self) -> str:
        return repr(self.mixer)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make(folder)
    return folder


def whole(folder: Path) -> Mixes:
    mixes = FixedMixes(folder)
    return mixes.take(np.arange(len(mixes)))


def test_what_is_kept_of_a_mix(made: Path) -> None:
    mixes = whole(made)
    data, teacher = data_of(), teacher_of()
    assert len(mixes) == 25
    assert mixes.masks.shape == (25, 2, 4, 4)  # the solver's grid
    np.testing.assert_allclose(mixes.masks.sum(axis=1), 1, atol=2e-3)
    np.testing.assert_allclose(mixes.mix_weights.sum(axis=1), 1, atol=1e-6)
    assert mixes.num_steps.max() <= 3
    source, samples = data.training_samples()
    natural = next(iter(source.batches([samples], stream=None)))[0]
    classes = teacher(natural).argmax(dim=1).numpy()
    np.testing.assert_array_equal(mixes.source_classes, classes[mixes.source_indices])


def solved_under(folder: Path, view: Transform | None, mixer: SuperMix = UNDER_VIEWS) -> str | None:
    make(folder, mixer, Plan(size=8, batch_size=8), view)
    return FixedMixes(folder).about["views"]


def test_masks_are_solved_under_what_the_training_will_show(tmp_path: Path) -> None:
    shown, other = RandomCropFlip(2), RandomCropFlip(2, flip_probability=0.0)
    assert solved_under(tmp_path / "shown", shown) == repr(shown)
    named = replace(UNDER_VIEWS, views=shown)
    assert solved_under(tmp_path / "named", other, named) == repr(shown)
    assert solved_under(tmp_path / "default", None) == repr(RandomCropFlip())
    assert solved_under(tmp_path / "exact", shown, replace(UNDER_VIEWS, views=None)) is None
    made = {name: whole(tmp_path / name) for name in ("shown", "named", "default", "exact")}
    np.testing.assert_array_equal(made["shown"].images, made["named"].images)
    for name in ("default", "exact"):
        assert not np.array_equal(made[name].images, made["shown"].images)


def test_which_mixes_hold_is_told_by_a_view_of_what_is_kept(tmp_path: Path) -> None:
    teacher, data = teacher_of(), data_of()
    mirrored = RandomCropFlip(0, flip_probability=1.0)  # chance has no say
    make(tmp_path, UNDER_VIEWS, Plan(size=64, batch_size=8), mirrored)
    mixes = whole(tmp_path)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    images = (torch.from_numpy(mixes.images).float() / 255 - mean) / std
    pairs = np.sort(mixes.source_classes, axis=1)
    for flipped in (True, False):
        seen = teacher(images.flip(3) if flipped else images).topk(2).indices.numpy()
        assert np.array_equal((np.sort(seen, axis=1) == pairs).all(axis=1), mixes.holds) == flipped
    assert 0 < mixes.holds.mean() < 1


class Nameless(RandomCropFlip):
    def __repr__(self) -> str:
        return object.__repr__(self)


@pytest.mark.parametrize("views", ["auto", Nameless()], ids=["shown", "named"])
def test_views_without_a_stable_name_are_refused(tmp_path: Path, views: Any) -> None:
    with pytest.raises(ValueError, match=r"expected views with a repr of their settings.*Nameless object at"):
        make(tmp_path / "mixes", replace(UNDER_VIEWS, views=views), view=Nameless())
    assert not (tmp_path / "mixes").exists()


def test_a_view_that_breaks_the_graph_is_not_solved_under(tmp_path: Path) -> None:
    def rounded(images: torch.Tensor) -> torch.Tensor:
        return images.round()

    with pytest.warns(UserWarning, match="no gradient flows through"):
        assert solved_under(tmp_path, rounded) == repr(RandomCropFlip())


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_sources_are_those_that_were_mixed(tmp_path: Path, k: int) -> None:
    data = data_of(images_per_class=3)  # a subset: its numbers are not the source's
    generate(tmp_path, data, teacher_of(), MixUp(k=k), PLAN)
    mixes = whole(tmp_path)
    source, samples = data.training_samples()
    assert len(samples) == 9
    pixels = source.images[samples].astype(np.float64)  # pyright: ignore[reportAttributeAccessIssue]
    averaged = np.einsum("mk,mkchw->mchw", mixes.mix_weights, pixels[mixes.source_indices])
    assert mixes.source_indices.shape == (25, k)
    assert np.abs(mixes.images - averaged).max() <= 0.51
    assert mixes.masks.shape == (25, k, SIZE, SIZE)


@pytest.mark.parametrize("batch_size", [4, 5, 37])
def test_every_image_is_mixed_equally_often(tmp_path: Path, batch_size: int) -> None:
    make(tmp_path, MixUp(), Plan(size=3 * NUM_TRAIN + 4, batch_size=batch_size))
    own = whole(tmp_path).source_indices[:, 0]
    turns = [own[turn * NUM_TRAIN : (turn + 1) * NUM_TRAIN] for turn in range(3)]
    assert all(np.array_equal(np.sort(turn), np.arange(NUM_TRAIN)) for turn in turns)
    assert not np.array_equal(turns[0], turns[1])
    assert len(set(own[3 * NUM_TRAIN :])) == 4


def test_the_order_is_a_function_of_place_and_seed() -> None:
    places = np.array([25, 3, 10, 11, 3])
    assert np.array_equal(source_order(11, places, 5), source_order(11, np.arange(33), 5)[places])
    assert not np.array_equal(source_order(11, np.arange(11), 5), source_order(11, np.arange(11), 6))


def test_a_last_batch_smaller_than_k_keeps_its_k_sources(tmp_path: Path) -> None:
    make(tmp_path, replace(MIXER, k=3), Plan(size=13, batch_size=4))
    mixes = whole(tmp_path)
    assert mixes.source_indices.shape == (13, 3)
    assert len(set(mixes.source_indices[12])) == 3


@pytest.mark.parametrize(
    ("mixer", "grid"), [(SuperMix(mask_size=(2, 4), max_steps=2), (2, 4)), (CutMix(), (8, 8))], ids=["oblong", "blind"]
)
def test_the_grid_of_the_kept_masks(tmp_path: Path, mixer: Mixer, grid: tuple[int, int]) -> None:
    make(tmp_path, mixer, Plan(size=4, batch_size=4))
    masks = whole(tmp_path).masks
    assert masks.shape == (4, 2, *grid)
    np.testing.assert_allclose(masks.sum(axis=1), 1, atol=2e-3)


@pytest.mark.parametrize("batches", [0, 1, 6])
def test_a_stopped_generation_goes_on_to_the_same_files(tmp_path: Path, made: Path, batches: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, Failing(MIXER, batches))
    assert len(shard_bytes(tmp_path)) == batches
    rest = Failing(MIXER, 99)
    make(tmp_path, rest)
    assert len(rest.made) == 7 - batches
    assert shard_bytes(tmp_path) == shard_bytes(made)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in made.iterdir()}  # no locks, no parts


def test_nothing_is_made_twice(tmp_path: Path) -> None:
    make(tmp_path)
    make(tmp_path, Failing(MIXER, 0))


def test_damaged_and_missing_shards_are_made_again(tmp_path: Path, made: Path) -> None:
    make(tmp_path)
    shard_path(tmp_path, 0).write_bytes(shard_path(tmp_path, 0).read_bytes()[:-100])
    shard_path(tmp_path, 2).unlink()
    make(tmp_path)
    assert shard_bytes(tmp_path) == shard_bytes(made)


def test_shards_of_other_processes_are_left_to_them(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = FileLock(f"{shard_path(tmp_path, 1)}.lock")
    rounds = []

    def wait(seconds: float) -> None:
        rounds.append(seconds)
        assert set(shard_bytes(made)) - set(shard_bytes(tmp_path)) <= {"mixes-00001.safetensors"}
        if len(rounds) == 1:
            shard_path(tmp_path, 1).write_bytes(b"damaged, and being made again")
        else:
            lock.release()  # as the system does with those of a killed process

    monkeypatch.setattr(generation.time, "sleep", wait)
    with lock:
        make(tmp_path)
    assert len(rounds) == 2
    assert shard_bytes(tmp_path) == shard_bytes(made)


class NoLock(FileLock):
    def acquire(self, *_: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSYS, "Function not implemented")


def test_where_locks_do_not_work_all_is_made_all_the_same(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "FileLock", NoLock)
    with pytest.warns(UserWarning, match="no file locks in .*Function not implemented.*may be made twice"):
        make(tmp_path)
    assert shard_bytes(tmp_path) == shard_bytes(made)


def test_each_process_has_an_order_of_its_own(tmp_path: Path) -> None:
    with ExitStack() as held:
        orders = {
            tuple(shard for shard, _ in islice(generation._claims(tmp_path, [*range(99)], held), 9)) for _ in "ab"
        }
    assert len(orders) == 2
    assert len(set(chain(*orders))) == 18  # what the first one holds is left out


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"plan": replace(PLAN, seed=4)}, r"\(seed: there 3, now 4\)"),
        ({"plan": replace(PLAN, size=30, batch_size=5)}, r"\(size: there 25, now 30; batch_size: there 4, now 5\)"),
        ({"mixer": replace(MIXER, alpha=1.0)}, r"\(mixer: there alpha=3.0, now alpha=1.0\)"),
        ({"num_train": 12}, r"\(num_sources: there 11, now 12; sources: there Noise \w+, now Noise \w+\)"),
    ],
    ids=["seed", "size", "mixer", "data"],
)
def test_other_settings_in_the_same_folder_are_refused(made: Path, change: dict[str, Any], named: str) -> None:
    before = shard_bytes(made)
    with pytest.raises(ValueError, match=named + ".*give another folder"):
        make(made, **change)
    assert shard_bytes(made) == before


def test_the_description_tells_apart_what_gives_other_mixes() -> None:
    data, teacher = data_of(), teacher_of()
    others = {
        "weights": (data, teacher_of(1), MIXER, PLAN),
        "normalisation": (data, teacher_of(mean=(0.5,) * 3, std=(0.5,) * 3), MIXER, PLAN),
        "precision": (data, teacher_of(dtype="bfloat16"), MIXER, PLAN),
        "pixels": (data_of(pixels=1), teacher, MIXER, PLAN),
        "statistics": (data_of(mean=(0.5, 0.5, 0.5)), teacher, MIXER, PLAN),
        "subset": (data_of(images_per_class=3), teacher, MIXER, PLAN),
        "mixer": (data, teacher, MixUp(), PLAN),
        "views": (data, teacher, replace(UNDER_VIEWS, views=RandomCropFlip(1)), PLAN),
        "other views": (data, teacher, replace(UNDER_VIEWS, views=RandomCropFlip(2)), PLAN),
        "plan": (data, teacher, MIXER, replace(PLAN, batch_size=5)),
        "batch size of the folder": (data, teacher, MIXER, replace(PLAN, batch_size=None)),
    }
    own = json.dumps(describe(data, teacher, MIXER, PLAN))
    described = {name: json.dumps(describe(*arguments)) for name, arguments in others.items()}
    assert len({own, *described.values()}) == 1 + len(others), described
    assert own == json.dumps(describe(data_of(batch_size=7, seed=9, augment=False), teacher_of(), MIXER, PLAN))


@pytest.mark.parametrize(
    ("size", "seconds_each", "seconds_more", "expected", "told"),
    [
        (1000, 0.3, 0.0, [8, 128], ["8 mixes took 2.4 s: 1000 take about 0:05:00 by one process"]),
        (1000, 2.6, 0.0, [8, 8], ["8 mixes took 20.8 s: 1000 take about 0:43:20 by one process"]),
        (1000, 30.0, 0.0, [8, 8], ["8 mixes took 240 s: 1000 take about 8:20:00 by one process"]),
        (1000, 0.5, 0.0, [8, 64, 64], ["8 mixes took 4 s", "64 mixes took 32 s"]),
        (1000, 0.01, 7.0, [8, 32, 128], ["8 mixes took 7.08 s", "32 mixes took 7.32 s"]),  # as on a GPU
        (16, 1.2, 0.0, [8, 32], ["8 mixes took 9.6 s"]),  # all in a file
        (10**6, 2.6, 0.0, [20, 20], ["20 mixes took 52 s: 1000000 take about 30 days, 2:13:20 by one process"]),
        (10**7, 0.01, 0.0, [200, 200], ["200 mixes took 2 s"]),
    ],
)
def test_a_kill_costs_less_than_a_minute_and_the_time_is_told_before(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    size: int,
    seconds_each: float,
    seconds_more: float,
    expected: list[int],
    told: list[str],
) -> None:
    now, tried = 0.0, []
    monkeypatch.setattr(generation.time, "monotonic", lambda: now)

    def batch(plan: Plan) -> None:
        nonlocal now
        tried.append(plan.batch_size)
        now += seconds_each * plan.mixed_together + seconds_more

    with caplog.at_level(logging.INFO):
        chosen = generation.fitting_batch_size(batch, Plan(size=size))
    assert [*tried, chosen] == expected
    assert all(message.startswith(start) for message, start in zip(caplog.messages, told, strict=True))


def test_all_processes_of_a_folder_have_the_batch_size_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(generation, "_LARGEST_BATCH", 8)  # whatever the speed
    plan = Plan(size=18)
    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        make(tmp_path, Failing(MIXER, 1), plan)
    assert re.match("8 mixes took .*: 18 take about 0:00:00 by one process", caplog.messages[0])
    assert caplog.messages[1:] == [f"18 mixes of 8x8 take about 5.44e-06 GB in 3 files in {tmp_path}; 0 are there"]
    monkeypatch.setattr(generation, "fitting_batch_size", None)
    rest = Failing(MIXER, 99)
    make(tmp_path, rest, plan)
    assert len(rest.made) == 3
    make(tmp_path, rest, replace(plan, batch_size=8))
    with pytest.raises(ValueError, match=r"\(batch_size: there 8, now 9\)"):
        make(tmp_path, rest, replace(plan, batch_size=9))


def test_where_locks_do_not_reach_the_first_description_counts(tmp_path: Path) -> None:
    def slower_than_another_machine() -> int:
        (tmp_path / "about.json").write_text('{"size": 3, "batch_size": 16}')
        return 8

    assert keep_description(tmp_path, {"size": 3}, slower_than_another_machine) == 16


def test_a_compiled_teacher_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "fitting_batch_size", None)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, data_of(), teacher_of(compile=True), Failing(MIXER, 0), Plan(size=4))
    assert json.loads((tmp_path / "about.json").read_text())["batch_size"] == 128


@pytest.mark.parametrize("wrong", [{"size": 0}, {"batch_size": 1}, {"seed": -1}])
def test_a_plan_checks_its_numbers(wrong: dict[str, int]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"expected {name} to be an integer >= .*, got {value}"):
        Plan(**{"size": 10, **wrong})


def test_a_plan_has_no_more_files_than_can_be_read() -> None:
    with pytest.raises(ValueError, match=r"expected batch_size >= 20 for 1000000 mixes.*got 16"):
        Plan(size=10**6, batch_size=16)


def test_lines_tell_how_far_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        generate(tmp_path, data_of(), teacher_of(), Failing(MIXER, 3), Plan(size=24, batch_size=4))
    with caplog.at_level(logging.INFO):
        generate(tmp_path, data_of(), teacher_of(), MIXER, Plan(size=24, batch_size=4))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("supermix_pl")]
    assert lines[0] == f"24 mixes of 8x8 take about 7.25e-06 GB in 6 files in {tmp_path}; 0 are there"
    assert lines[2].endswith("; 12 are there")
    assert [line.partition(",")[0] for line in lines[1::2] + lines[4:]] == [
        f"{done} of 24 mixes" for done in (4, 16, 24)
    ]
    assert re.search(r"mixes, [\d.]+ a second, 0:00:00 left, .*e-05 GB in all$", lines[-1])


def test_a_disk_that_is_too_small_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = type(shutil.disk_usage(tmp_path))(10**6, 10**6, 4000)
    monkeypatch.setattr(generation, "disk_usage", lambda folder: free)
    make(tmp_path)
    assert "25 mixes of 8x8 take about 7.55e-06 GB, 4e-06 GB are free in" in caplog.text
    caplog.clear()
    make(tmp_path)  # all is there
    assert not caplog.records


@pytest.mark.slow
def test_a_disk_that_is_full_loses_nothing(tmp_path: Path, made: Path) -> None:
    folder, size = tmp_path / "mixes", 8
    with small_disk(folder) as resize:
        while len(shard_bytes(folder)) < len(shard_bytes(made)):
            resize(size)
            with suppress(OSError):
                make(folder)
            size += 4
        assert size > 24
        make(folder, Failing(MIXER, 0))
        assert shard_bytes(folder) == shard_bytes(made)
        assert {path.name for path in folder.iterdir()} == {path.name for path in made.iterdir()}


def test_rate_and_size_are_of_what_is_made_by_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    monkeypatch.setattr(generation.time, "monotonic", lambda: now)
    plan = Plan(size=1000, batch_size=10)
    for shard in range(50):
        shard_path(tmp_path, shard).touch()
    with caplog.at_level(logging.INFO):
        shown = generation.GenerationProgress(tmp_path, plan)
        assert shown.there == 500
        for shard, seconds in ((50, 61), (52, 62), (53, 121), (54, 122)):
            now = float(seconds)
            shard_path(tmp_path, shard).write_bytes(bytes(2 * 10**7))
            shard_path(tmp_path, 99).touch()  # another process made it
            shown.finished(shard_path(tmp_path, shard))
    assert [record.getMessage() for record in caplog.records] == [
        "520 of 1000 mixes, 0.3 a second, 0:24:24 left, 2 GB in all",
        "540 of 1000 mixes, 0.3 a second, 0:23:12 left, 2 GB in all",
    ]


def start(folder: Path, delay: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.experiments.mixes.test_generation", str(folder), str(delay)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=Path(__file__).parents[3], env=environment)


@pytest.mark.slow
def test_a_killed_generation_goes_on_to_the_same_files(tmp_path: Path, made: Path) -> None:
    process = start(tmp_path, 0.2)
    deadline = time.monotonic() + 100
    while len(shard_bytes(tmp_path)) < 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # into the second shard
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert 1 <= len(shard_bytes(tmp_path)) < 7
    make(tmp_path)
    assert shard_bytes(tmp_path) == shard_bytes(made)


@pytest.mark.slow
def test_two_processes_share_a_folder(tmp_path: Path, made: Path) -> None:
    processes = [start(tmp_path, 0.2) for _ in range(2)]
    assert [process.wait(100) for process in processes] == [0, 0]
    make(tmp_path, Failing(MIXER, 0))
    assert shard_bytes(tmp_path) == shard_bytes(made)


@dataclass(frozen=True)
class Slow(Failing):
    """Takes its time."""

    delay: float = 0.0

    def __call__(self, *arguments: Any, **options: Any) -> MixedBatch:
        time.sleep(self.delay)
        return super().__call__(*arguments, **options)

    def __repr__(self) -> str:
        return repr(self.mixer)


if __name__ == "__main__":
    torch.set_num_threads(1)
    make(Path(sys.argv[1]), Slow(MIXER, 99, delay=float(sys.argv[2])))
