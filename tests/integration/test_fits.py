"""What belongs to a fit ends with it; what Lightning trains on with, the next fit of the same trainer goes on with."""

import copy
import gc
import pickle
import re
import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelPruning
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MovingAverage, StreamEngine, SuperMix, SuperMixCallback
from tests.integration.test_cases import Distilling
from tests.integration.toys import (
    MIXER,
    Student,
    Teacher,
    assert_same_tensors,
    loader,
    make_callback,
    make_trainer,
)

FAST = SuperMix.fast(mask_size=4, max_steps=3)
ENGINES: dict[str, Any] = {"batch": "batch", "stream": "stream"}
each_engine = pytest.mark.parametrize("engine", ENGINES)
pytestmark = [
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used:UserWarning"),
    pytest.mark.filterwarnings("ignore:Resuming in the middle of an epoch:UserWarning"),
]


class Checked(Distilling):
    def __init__(self) -> None:
        super().__init__()
        self.network.dropout.p = 0.0

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self(batch[0])


def ema(**options: Any) -> SuperMixCallback:
    return SuperMixCallback(MovingAverage(0.9), FAST, **options)


def average_of(callback: SuperMixCallback) -> dict[str, Tensor]:
    return callback.state_dict()["average"]["weights"]


class Start(pl.Callback):
    """Notes an average when training starts."""

    def __init__(self, of: SuperMixCallback) -> None:
        self.of = of
        self.averages: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.averages.append(average_of(self.of))


# Only a fit that resumes takes up state


def test_a_test_of_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    callback, module = ema(), Checked()
    trainer = make_trainer(tmp_path, callback)
    trainer.fit(module, loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = ema()
    make_trainer(tmp_path, other).test(Checked(), loader(), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert other.state_dict() == ema().state_dict()
    before = callback.state_dict()
    trainer.test(module, loader(), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert callback.state_dict()["engine"] == before["engine"]
    second, start = Checked(), Start(callback)
    make_trainer(tmp_path, callback, start).fit(second, loader())
    expected = Checked().state_dict()
    assert_same_tensors({name: start.averages[0][name] for name in expected}, expected)


def test_a_fit_that_fails_before_it_trains_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    class Broken(Checked):
        def configure_optimizers(self) -> Any:
            raise ZeroDivisionError

    callback = ema()
    trainer = make_trainer(tmp_path, callback)
    trainer.fit(Checked(), loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(ZeroDivisionError):
        make_trainer(tmp_path, callback, max_epochs=2).fit(
            Broken(), loader(), ckpt_path=tmp_path / "a.ckpt", weights_only=True
        )
    start = Start(callback)
    make_trainer(tmp_path, callback, start).fit(Checked(), loader())
    expected = Checked().state_dict()
    assert_same_tensors({name: start.averages[0][name] for name in expected}, expected)


# The next fit of the same trainer


def in_two_fits(folder: Path, callback: SuperMixCallback, module: Any, *, other: Any = None) -> Any:
    trainer = make_trainer(folder, callback)
    trainer.fit(module, loader())
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module if other is None else other, loader())
    return module


def test_an_average_goes_on(tmp_path: Path) -> None:
    parts, whole = ema(engine="batch"), ema(engine="batch")
    in_two_fits(tmp_path, parts, Checked())
    make_trainer(tmp_path, whole, max_epochs=2).fit(Checked(), loader())
    assert parts.state_dict()["average"]["updates"] == 6
    assert_same_tensors(average_of(parts), average_of(whole))


def test_a_store_goes_on(tmp_path: Path) -> None:
    parts, whole = in_two_fits(tmp_path, make_callback(mixer=FAST, engine="stream"), Student()), Student()
    make_trainer(tmp_path, make_callback(mixer=FAST, engine="stream"), max_epochs=2).fit(whole, loader())
    assert len(parts.images) == len(whole.images) == 6
    assert all(map(torch.equal, parts.images, whole.images))


def test_a_fit_that_has_nothing_to_do_loses_nothing(tmp_path: Path) -> None:
    callback, parts = make_callback(mixer=FAST, engine="stream"), Student()
    trainer = make_trainer(tmp_path, callback)
    trainer.fit(parts, loader())
    trainer.fit(parts, loader())
    trainer.fit_loop.max_epochs = 2
    trainer.fit(parts, loader())
    whole = Student()
    make_trainer(tmp_path, make_callback(mixer=FAST, engine="stream"), max_epochs=2).fit(whole, loader())
    assert all(map(torch.equal, parts.images, whole.images))


def test_another_module_and_another_trainer_begin_anew(tmp_path: Path) -> None:
    callback = ema()
    in_two_fits(tmp_path, callback, Checked(), other=Checked())
    assert callback.state_dict()["average"]["updates"] == 3
    make_trainer(tmp_path, callback).fit(Checked(), loader())
    assert callback.state_dict()["average"]["updates"] == 3
    assert callback.state_dict()["engine"]["step"] == 3


def test_after_an_exception_it_goes_on_too_but_not_from_within_the_mixing(tmp_path: Path) -> None:
    class Failing(Student):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if len(self.batches) == 2:
                self.batches.append(batch)
                raise ZeroDivisionError
            return super().training_step(batch, batch_idx)

    callback, student = make_callback(mixer=FAST, engine="stream"), Failing()
    trainer = make_trainer(tmp_path, callback)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(student, loader())
    assert callback._engine.steps == 3
    trainer.fit_loop.max_epochs = 2
    trainer.fit(student, loader())
    assert callback._engine.steps > 4
    callback = make_callback(mixer=FAST, engine="stream")
    callback._engine.mix = lambda *args, **kwargs: 1 / 0  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ZeroDivisionError):
        make_trainer(tmp_path, callback).fit(Student(), loader())
    assert not callback._kept


# What is let go


def reached_from(*roots: Any) -> list[Any]:
    """All that objects hold, but for code, and what lives in modules of Python."""
    left, seen, found = list(roots), set(), []
    while left:
        value = left.pop()
        if id(value) in seen or isinstance(value, type | type(gc)) or hasattr(value, "__globals__"):
            continue
        seen.add(id(value))
        found.append(value)
        left.extend(gc.get_referents(value))
    return found


@pytest.mark.parametrize("fails", [False, pytest.param(True, marks=pytest.mark.slow)])
@each_engine
def test_after_a_fit_nothing_of_the_run_is_held(tmp_path: Path, engine: str, fails: bool) -> None:
    class Failing(Student):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if fails and batch_idx == 2:
                raise ZeroDivisionError
            return super().training_step(batch, batch_idx)

    callback = make_callback(mixer=FAST, engine=engine, save_state=True, log_images_every=100)
    student, trainer = Failing(), make_trainer(tmp_path, callback)
    strategy, run = weakref.ref(trainer.strategy), weakref.ref(trainer)
    try:
        trainer.fit(student, loader())
    except ZeroDivisionError:
        assert fails
    held = reached_from(vars(callback) | {"_kept": None}, callback._engine)
    kinds = {type(value).__name__ for value in held}
    assert not kinds & {"SingleDeviceStrategy", "Trainer", "Fit", "ImageStore", "Solving", "Failing"}
    assert pickle.loads(pickle.dumps(callback)).state_dict() is not None
    del student, trainer, held
    gc.collect()
    assert strategy() is None
    assert run() is None
    assert not callback._kept  # the store went with its trainer


# Modules that are built late


class Late(Distilling):
    """Builds its layers in `setup` or `configure_model`."""

    def __init__(self, where: str, shared: nn.Module | None = None) -> None:
        super().__init__()
        self.where, self.shared = where, [shared]  # in a list, so that it is no part yet
        del self.network

    def setup(self, stage: str) -> None:
        if self.where == "setup":
            self.network = self.shared[0] or Teacher()

    def configure_model(self) -> None:
        if self.where == "configure_model":
            self.network = self.shared[0] or Teacher()


@pytest.mark.parametrize("where", ["setup", "configure_model"])
def test_late_modules_teach_from_their_checkpoints(tmp_path: Path, where: str) -> None:
    first = make_trainer(tmp_path)
    first.fit(Late(where), loader())
    first.save_checkpoint(tmp_path / "first.ckpt")
    callback = SuperMixCallback(tmp_path / "first.ckpt", FAST)
    student = Late(where)
    make_trainer(tmp_path, callback).fit(student, loader())
    assert [len(labels) for labels in student.labels] == [8, 8, 8]
    assert callback.teacher is not None
    held = torch.load(tmp_path / "first.ckpt", weights_only=True)["state_dict"]
    assert_same_tensors(dict(callback.teacher.module.state_dict()), held)


@pytest.mark.parametrize("where", ["setup", "configure_model"])
def test_parameters_that_are_shared_late_are_refused(tmp_path: Path, where: str) -> None:
    teacher = Teacher()
    with pytest.raises(ValueError, match="expected a teacher that shares no parameter with the trained module"):
        make_trainer(tmp_path, SuperMixCallback(teacher, FAST)).fit(Late(where, teacher), loader())


def test_parameters_of_the_same_memory_are_refused(tmp_path: Path) -> None:
    teacher = Teacher()
    other = copy.deepcopy(teacher)
    other.head.weight = nn.Parameter(teacher.head.weight.data)
    with pytest.raises(ValueError, match=r"got 1 shared, 'network.head.weight' among them"):
        make_trainer(tmp_path, SuperMixCallback(teacher, FAST)).fit(Late("setup", other), loader())


def test_pruning_is_refused_before_the_fit(tmp_path: Path) -> None:
    module = Distilling()
    pruning = ModelPruning("l1_unstructured", parameters_to_prune=[(module.network.head, "weight")], amount=0.5)
    with pytest.raises(ValueError, match=r"keep its parameters.*got the callback ModelPruning; build and prune it"):
        make_trainer(tmp_path, pruning, ema()).fit(module, loader())


# Other processes


class Sent(Student):
    """Writes what its rank saw."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.input_of, self.labels_of, self.optimizer = first, second, sgd

    def on_train_end(self) -> None:
        torch.save(list(self.images), self.folder / f"{self.global_rank}.pt")


def first(batch: Any) -> Any:
    return batch[0]


def second(batch: Any) -> Any:
    return batch[1]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the processes
@each_engine
def test_two_processes_that_are_spawned(tmp_path: Path, engine: str) -> None:
    callback = make_callback(mixer=FAST, engine=engine, save_state=True)
    make_trainer(tmp_path, callback, strategy="ddp_spawn", devices=2).fit(Sent(tmp_path), loader(24))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert [[len(images) for images in rank] for rank in ranks] == 2 * [[8, 8, 8]]
    assert not torch.equal(ranks[0][0], ranks[1][0])


# Settings that do nothing, and names


def said(folder: Path, callback: SuperMixCallback, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            make_trainer(folder, callback, **options).fit(Student(), loader(8))
    return [str(each.message) for each in caught if re.match("start_epoch|k=1|budget", str(each.message))]


def test_settings_that_do_nothing_are_told_of_once(tmp_path: Path) -> None:
    (late,) = said(tmp_path, make_callback(start_epoch=1))
    assert late.startswith("start_epoch=1 is not below max_epochs=1: the teacher will supervise no epoch")
    (alone,) = said(tmp_path, make_callback(mixer=SuperMix(k=1, mask_size=4, max_steps=1)))
    assert alone.startswith("k=1: every set has one source, so nothing is mixed")
    (much,) = said(tmp_path, make_callback(engine=StreamEngine(budget=25)))
    assert much.startswith("budget=25: solving may take 25 times as long as the training step")
    assert said(tmp_path, make_callback(engine=StreamEngine(budget=0.25), start_epoch=1), max_epochs=2) == []


def test_names_say_the_settings() -> None:
    callback = make_callback(FrozenTeacher(Teacher(), image_size=4, fold=False), MIXER, targets="soft", seed=3)
    teacher = "FrozenTeacher(Teacher, image_size=(4, 4), fold=False)"
    assert repr(callback) == f"SuperMixCallback({teacher}, {MIXER!r}, targets='soft', seed=3, engine=BatchEngine())"
    stream = StreamEngine(reuse=3, default_transform=None)
    assert repr(stream) == f"StreamEngine(reuse=3, store_bytes={2**28}, default_transform=None)"
    late = SuperMixCallback("ema", MIXER, engine=stream)
    assert repr(late) == f"SuperMixCallback(MovingAverage(decay=0.999), {MIXER!r}, engine={stream!r})"
    assert "build" in repr(SuperMixCallback(build, MIXER))


def build() -> nn.Module:
    return Teacher()
