"""Files beside checkpoints: their names, that a pair on the disk is whole at any moment, and that nothing is left."""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import SingleDeviceStrategy
from safetensors.torch import save_file
from torch import Tensor

from supermix_pl.engine import StreamEngine
from supermix_pl.trainer.side_files import SideFiles, load_beside, read, side_path
from tests.integration.test_resume import Failing, SavingOnException
from tests.integration.toys import Student, loader, make_callback, make_trainer


class Power(BaseException):
    """It was cut."""


class Disk:
    """The part of a strategy that has to do with checkpoints; notes what lay in the folder at each of its calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[str, set[str]]] = []
        self.cut_at = ""

    def note(self, call: str) -> None:
        self.calls.append((call, names(self.folder)))
        if call == self.cut_at:
            raise Power

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        self.note("save")
        part = self.folder / "checkpoint.tmp"
        part.write_text(str(checkpoint.get("callbacks")))
        part.replace(filepath)
        self.note("saved")

    def remove_checkpoint(self, filepath: Any) -> None:
        Path(filepath).unlink()
        self.note("removed")

    def barrier(self, name: str) -> None:
        self.note(f"barrier {sum(call.startswith('barrier') for call, _ in self.calls) % 2}")

    def teardown(self) -> None:
        self.note("teardown")


class Run:
    """A rank that saves; its tensors say at which step."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.step = 0
        self.disk = Disk(folder)
        self.files = SideFiles(self.disk, rank, lambda: {"step": torch.tensor(self.step)}, lambda: self.step)

    def save(self, step: int, name: str = "last.ckpt") -> None:
        self.step = step
        self.disk.save_checkpoint({"callbacks": step}, self.disk.folder / name)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def side(step: int, name: str = "last.ckpt", rank: int = 0) -> str:
    return f"{name}.supermix-step{step}-rank{rank}.safetensors"


def test_name(tmp_path: Path) -> None:
    assert side_path(tmp_path / "a.ckpt", 12, 3) == tmp_path / "a.ckpt.supermix-step12-rank3.safetensors"
    assert side_path(str(tmp_path / "a"), 0, 0) == tmp_path / "a.supermix-step0-rank0.safetensors"


def test_a_link_has_the_file_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.ckpt").touch()
    (tmp_path / "last.ckpt").symlink_to("folder/a.ckpt")
    assert side_path(tmp_path / "last.ckpt", 1, 0) == tmp_path / "folder" / side(1, "a.ckpt")


@pytest.mark.parametrize("address", ["s3://bucket/a.ckpt", "gs://b/a.ckpt"])
def test_checkpoints_elsewhere_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match=rf"local folder for save_state=True, got {address}; .* save_state=False"):
        side_path(address, 1, 0)


def test_tensors_of_all_kinds_come_back(tmp_path: Path) -> None:
    images = torch.rand(6, 3, 4, 4)
    tensors = {
        "channels last": images.to(memory_format=torch.channels_last),
        "view": images[1:3],
        "same view": images[1:3],
        "bytes": torch.arange(7, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "halves": images.bfloat16(),
        "infinite": torch.tensor([torch.inf, -torch.inf]),
        "none": torch.zeros(0, 3),
        "number": torch.tensor(2**40),
        "gradient": torch.ones(2, requires_grad=True),
    }
    disk = Disk(tmp_path)
    SideFiles(disk, 0, lambda: tensors, lambda: 5)
    disk.save_checkpoint({"callbacks": {}}, tmp_path / "a.ckpt")
    found = read(tmp_path / side(5, "a.ckpt"))
    assert found is not None
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name


def test_nothing_to_read(tmp_path: Path) -> None:
    assert read(tmp_path / "nothing.safetensors") is None


def test_the_file_is_there_before_the_checkpoint_and_the_old_one_until_after(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(1)
    run.save(2)
    before, old = {"last.ckpt", side(1), side(2)}, {"last.ckpt", side(2)}
    assert run.disk.calls[4:] == [("barrier 0", before), ("save", before), ("saved", before), ("barrier 1", before)]
    assert names(tmp_path) == old


CUTS = ["fsync", "replace", "unlink", "barrier 0", "save", "saved", "barrier 1"]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("late", [False, True])
def test_whenever_power_is_cut_a_checkpoint_has_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str, late: bool
) -> None:
    """Before the call and after it; the checkpoint's own atomic write is taken as given."""
    run = Run(tmp_path)
    run.save(1)

    def cutting(function: Callable[..., Any]) -> Callable[..., Any]:
        def cut_call(*args: Any, **kwargs: Any) -> Any:
            if late:
                function(*args, **kwargs)
            raise Power

        return cut_call

    owners = {"fsync": os, "replace": Path, "unlink": Path}
    run.disk.cut_at = cut
    with monkeypatch.context() as patches:
        if cut in owners:
            patches.setattr(owners[cut], cut, cutting(getattr(owners[cut], cut)))
        with pytest.raises(Power):
            run.save(2)
    step = int((tmp_path / "last.ckpt").read_text())
    assert step == (2 if cut in ("unlink", "saved", "barrier 1") else 1)
    assert_whole(tmp_path, step)
    again = Run(tmp_path)
    again.save(3)
    assert names(tmp_path) - {"checkpoint.tmp"} == {"last.ckpt", side(3)}  # nothing is left of the cut
    assert_whole(tmp_path, 3)


def assert_whole(folder: Path, step: int) -> None:
    tensors = read(side_path(folder / "last.ckpt", step, 0))
    assert tensors is not None
    assert tensors["step"].item() == step


def test_every_rank_has_a_file_and_touches_no_other(tmp_path: Path) -> None:
    runs = {rank: Run(tmp_path, rank) for rank in (0, 1, 10)}
    for step in (1, 2):
        for run in runs.values():
            run.save(step)
    assert names(tmp_path) == {"last.ckpt", *(side(2, rank=rank) for rank in runs)}
    runs[1].disk.remove_checkpoint(tmp_path / "last.ckpt")
    assert names(tmp_path) == {side(2, rank=0), side(2, rank=10)}


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_alone_has_an_exception_waits_for_no_other(tmp_path: Path, rank: int) -> None:
    disk = Disk(tmp_path)
    disk.cut_at = "barrier 0"
    for step in (1, 2):  # what was there stays: rank 0 may not write the checkpoint of this one
        SideFiles(disk, rank, lambda: {"step": torch.tensor(1)}, lambda step=step: step, 2, lambda: True)
        disk.save_checkpoint({"callbacks": step}, tmp_path / "last.ckpt")
    assert names(tmp_path) == {"last.ckpt", side(1, rank=rank), side(2, rank=rank)}


@pytest.mark.parametrize("name", ["step=[3]*?.ckpt", "a b.ckpt", "no_ending"])
def test_names_that_look_like_patterns(tmp_path: Path, name: str) -> None:
    run = Run(tmp_path)
    run.save(1, "step=3.ckpt")
    run.save(2, name)
    run.save(4, name)
    assert names(tmp_path) == {"step=3.ckpt", side(1, "step=3.ckpt"), name, side(4, name)}
    run.disk.remove_checkpoint(tmp_path / name)
    assert names(tmp_path) == {"step=3.ckpt", side(1, "step=3.ckpt")}


def test_a_link_that_is_removed_leaves_the_files_of_its_target(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(1, "a.ckpt")
    (tmp_path / "last.ckpt").symlink_to("a.ckpt")
    run.disk.remove_checkpoint(tmp_path / "last.ckpt")
    assert names(tmp_path) == {"a.ckpt", side(1, "a.ckpt")}


def test_the_folder_is_made_where_it_is_missing(tmp_path: Path) -> None:
    disk: Any = Disk(tmp_path)
    disk.save_checkpoint = lambda *_: None
    SideFiles(disk, 0, lambda: {"step": torch.tensor(1)}, lambda: 1)
    disk.save_checkpoint({"callbacks": {}}, tmp_path / "new" / "folder" / "a.ckpt")
    assert names(tmp_path / "new" / "folder") == {side(1, "a.ckpt")}


@pytest.mark.parametrize(("checkpoint", "tensors"), [({}, {"a": torch.ones(1)}), ({"callbacks": {}}, {})])
def test_weights_alone_and_engines_that_hold_nothing_get_no_file(
    tmp_path: Path, checkpoint: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    disk = Disk(tmp_path)
    SideFiles(disk, 0, lambda: tensors, lambda: 1)
    disk.save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    assert names(tmp_path) == {"a.ckpt"}


def test_the_strategy_gets_its_own_methods_back(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert {"save_checkpoint", "remove_checkpoint"} <= vars(run.disk).keys()
    run.files.remove()
    run.files.remove()
    assert vars(run.disk).keys() == vars(Disk(tmp_path)).keys()
    run.save(1)
    assert names(tmp_path) == {"last.ckpt"}


def test_a_wrapper_of_someone_else_stays(tmp_path: Path) -> None:
    disk: Any = Disk(tmp_path)
    saved = []
    disk.save_checkpoint = lambda checkpoint, path: saved.append(path)
    theirs = disk.save_checkpoint
    files = SideFiles(disk, 0, dict, lambda: 1)
    disk.save_checkpoint({"callbacks": {}}, tmp_path / "a.ckpt")
    files.remove()
    assert saved == [tmp_path / "a.ckpt"]
    assert disk.save_checkpoint is theirs
    disk.remove_checkpoint = lambda path: None  # of someone who came later
    later = disk.remove_checkpoint
    files.remove()
    assert disk.remove_checkpoint is later


class Scored(Student):
    """The third of four steps is the best."""

    scores = (4.0, 2.0, 1.0, 3.0)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("score", self.scores[batch_idx])
        return super().training_step(batch, batch_idx)


def fit(folder: Path, *callbacks: Any, student: Any = None, **options: Any) -> Any:
    mixing = make_callback(engine=StreamEngine(reuse=2), save_state=True, **options)
    trainer = make_trainer(folder, mixing, *callbacks, enable_checkpointing=True)
    before = dict(vars(trainer.strategy))
    try:
        trainer.fit(student or Scored(), loader(16))
    finally:
        assert vars(trainer.strategy).keys() == before.keys()
    return trainer


def failing() -> Failing:
    student = Failing()
    student.fails_at = 2
    return student


def every_step(folder: Path, **options: Any) -> ModelCheckpoint:
    return ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_on_train_epoch_end=False, **options)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"save_top_k": -1}, [1, 2, 3, 4]),
        ({"save_top_k": 1}, [4]),
        ({"monitor": "score", "save_top_k": 1}, [3]),
        ({"monitor": "score", "save_top_k": 2}, [2, 3]),
    ],
)
def test_checkpoints_that_go_take_their_files_along(tmp_path: Path, options: dict[str, Any], kept: list[int]) -> None:
    fit(tmp_path, every_step(tmp_path, **options))
    expected = {f"step={step}.ckpt": step for step in kept}
    assert names(tmp_path) == {*expected, *(side(step, name) for name, step in expected.items())}


@pytest.mark.parametrize("save_last", [True, "link"])
def test_last_checkpoint(tmp_path: Path, save_last: Any) -> None:
    trainer = fit(tmp_path, every_step(tmp_path, save_last=save_last, monitor="score", save_top_k=1))
    files = {side(4)} if save_last is True else set()
    best = {"step=3.ckpt", side(3, "step=3.ckpt")}
    assert names(tmp_path) == {"last.ckpt", *best, *files}
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["SuperMixCallback"]
    assert side_path(tmp_path / "last.ckpt", state["engine"]["step"], trainer.global_rank).is_file()


def test_checkpoints_of_weights_alone(tmp_path: Path) -> None:
    fit(tmp_path, every_step(tmp_path, save_weights_only=True))
    assert names(tmp_path) == {"step=4.ckpt"}


@pytest.mark.parametrize("engine", ["batch", "stream"])
def test_no_files_where_none_are_asked_for_or_none_are_needed(tmp_path: Path, engine: Any) -> None:
    callback = make_callback(engine=engine, save_state=engine == "batch")
    trainer = make_trainer(tmp_path, callback, every_step(tmp_path), enable_checkpointing=True)
    trainer.fit(Student(), loader(16))
    assert names(tmp_path) == {"step=4.ckpt"}


def test_what_others_save_of_an_exception_has_its_file_too(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, "{step}", save_on_exception=True)
    with pytest.raises(ZeroDivisionError, match="power cut"):
        fit(tmp_path, saving, SavingOnException(tmp_path / "cut.ckpt"), student=failing())
    # the third batch was mixed, and not trained on
    assert names(tmp_path) == {"cut.ckpt", side(3, "cut.ckpt"), "step=2.ckpt", side(3, "step=2.ckpt")}


@pytest.mark.parametrize(("ranks", "waits"), [(1, 4 + 2), (2, 4)])
def test_a_rank_of_several_saves_an_exception_without_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, waits: int
) -> None:
    """Two checkpoints of steps, and that of the exception; each waits for the others twice."""
    barriers: list[str | None] = []
    monkeypatch.setattr(pl.Trainer, "world_size", ranks)
    monkeypatch.setattr(SingleDeviceStrategy, "barrier", lambda self, name=None: barriers.append(name))
    with pytest.raises(ZeroDivisionError, match="power cut"):
        fit(tmp_path, every_step(tmp_path), SavingOnException(tmp_path / "cut.ckpt"), student=failing())
    assert sum("supermix" in str(name) for name in barriers) == waits
    assert {"cut.ckpt", side(3, "cut.ckpt")} <= names(tmp_path)


def test_a_folder_elsewhere_is_refused_when_it_is_written_to(tmp_path: Path) -> None:
    class Saving(Student):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.trainer.save_checkpoint("memory://checkpoints/a.ckpt")

    with pytest.raises(ValueError, match="expected checkpoints in a local folder for save_state=True"):
        fit(tmp_path, student=Saving())


def test_a_smaller_run_leaves_no_files_of_ranks_that_are_no_more(tmp_path: Path) -> None:
    for rank in range(3):
        Run(tmp_path, rank).save(1)
    disk = Disk(tmp_path)
    SideFiles(disk, 0, lambda: {"step": torch.tensor(2)}, lambda: 2, world_size=2)
    disk.save_checkpoint({"callbacks": 2}, tmp_path / "last.ckpt")
    assert names(tmp_path) == {"last.ckpt", side(2), side(1, rank=1)}
    disk.remove_checkpoint(tmp_path / "last.ckpt")
    assert names(tmp_path) == {side(1, rank=1)}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / side(1)
    path.write_bytes(b"\x00" * 40)
    with pytest.raises(ValueError, match=re.escape(f"in {path}, got a damaged file (40 bytes); restore it, or delete")):
        read(path)


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / side(0)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=re.escape(f"{path}: expected what a stream holds, got other tensors")):
        load_beside(tmp_path / "last.ckpt", StreamEngine(), 0, 1)


@pytest.mark.parametrize(("rank", "ranks", "told"), [(0, 2, 1), (1, 2, 0), (0, 3, 0)])
def test_a_smaller_run_is_told_that_stores_are_lost(tmp_path: Path, rank: int, ranks: int, told: int) -> None:
    held = {"sizes": torch.zeros(1)}
    for saved in range(3):
        save_file(held, tmp_path / side(0, rank=saved))
    engine = StreamEngine()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_beside(tmp_path / "last.ckpt", engine, rank, ranks)
    assert [f"{side(0, rank=2)} and what" in str(warning.message) for warning in caught] == [True] * told
    assert engine.tensors().keys() == held.keys()


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # it goes on in the same one
def test_a_resumed_fit_knows_how_many_ranks_it_has(tmp_path: Path) -> None:
    saving = every_step(tmp_path)
    fit(tmp_path, saving)
    (own,) = tmp_path.glob("*rank0.safetensors")
    own.with_name(own.name.replace("rank0", "rank1")).write_bytes(own.read_bytes())
    (checkpoint,) = tmp_path.glob("*.ckpt")
    mixing = make_callback(engine=StreamEngine(reuse=2), save_state=True)
    trainer = make_trainer(tmp_path, mixing, saving, enable_checkpointing=True, max_epochs=2)
    with pytest.warns(UserWarning, match="rank1.safetensors and what .* no use to this run of 1"):
        trainer.fit(Scored(), loader(16), ckpt_path=checkpoint)
