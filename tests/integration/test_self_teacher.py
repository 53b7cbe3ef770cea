"""One run with its own average as teacher, or with an earlier run's checkpoint."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateFinder, ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from supermix_pl import MixedBatch, MovingAverage, SuperMixCallback
from supermix_pl.experiments.data import ImageDataModule
from tests.integration.test_kills import Bright
from tests.integration.toys import MIXER, NUM_CLASSES, Teacher, assert_same_tensors, loader, make_trainer, weights

EPOCHS = 4

pytestmark = [
    # Lightning's words on the ModelCheckpoint of the first run, and on data without a validation part
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used:UserWarning"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`:UserWarning"),
]


class Classifier(pl.LightningModule):
    """A student that can teach: it gives logits of images. It starts with what `Teacher` knows, less sharply."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Teacher()
        with torch.no_grad():
            self.network.head.weight.mul_(0.2)
        self.lr = 0.1
        self.sizes: list[int] = []
        self.targets: list[Tensor] = []
        self.mixes: list[MixedBatch | None] = []

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, targets = batch
        self.sizes.append(len(images))
        self.targets.append(targets)
        callbacks: list[Any] = self.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        self.mixes += [each.mix for each in callbacks if isinstance(each, SuperMixCallback)]
        return nn.functional.cross_entropy(self(images), targets)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def bright() -> ImageDataModule:
    return Bright(12)


def callback(teacher: Any = "ema", **options: Any) -> SuperMixCallback:
    return SuperMixCallback(teacher, MIXER, **{"engine": "batch", "start_epoch": 2, **options})


def fit(folder: Path, mixing: SuperMixCallback, *more: Any, resume: Path | None = None, **options: Any) -> Classifier:
    torch.manual_seed(0)  # of dropout
    student = Classifier()
    student.network.dropout.p = 0.0
    trainer = make_trainer(folder, mixing, *more, max_epochs=EPOCHS, enable_checkpointing=bool(more), **options)
    trainer.fit(student, bright(), ckpt_path=resume, weights_only=resume and True)
    return student


def test_average_supervises_from_its_epoch_on(tmp_path: Path) -> None:
    mixing = callback()
    student = fit(tmp_path, mixing)
    assert student.sizes == 6 * [4] + 6 * [8]
    average = mixing._supervision.average
    assert average is not None
    assert average.updates == 12
    assert mixing.teacher is not None
    assert student.mixes[:6] == 6 * [None]
    assert all(mix is not None and mix.solved.any() for mix in student.mixes[6:])
    averaged = mixing.teacher.module.get_parameter("network.head.weight")
    assert not torch.equal(averaged, student.network.head.weight)
    torch.testing.assert_close(averaged, student.network.head.weight, atol=1.0, rtol=0)
    assert set(student.state_dict()) == set(Classifier().state_dict())


def test_mixup_until_then(tmp_path: Path) -> None:
    student = fit(tmp_path, callback(before_start="mixup", targets="soft"))
    assert student.sizes == 12 * [8]
    early, late = student.targets[0][4:], student.targets[-1][4:]
    assert early.shape == late.shape == (4, NUM_CLASSES)
    assert ((early > 0) & (early < 1)).any()
    torch.testing.assert_close(early.sum(dim=1), torch.ones(4))


@pytest.mark.filterwarnings("ignore:start_epoch=2 is not below")
def test_mixup_before_a_given_teacher(tmp_path: Path) -> None:
    mixing = callback(Teacher, before_start="mixup", targets="soft")
    module = Classifier()
    make_trainer(tmp_path, mixing).fit(module, bright())
    assert module.sizes == [8, 8, 8]
    for mix in module.mixes:
        assert mix is not None
        assert mix.teacher_logits is None
        assert mix.teacher_forwards == 0


def test_mixup_until_then_has_no_teacher_to_label_it() -> None:
    with pytest.raises(ValueError, match='expected targets="soft" or "pairs" for before_start="mixup"'):
        callback(before_start="mixup")


@pytest.mark.parametrize("start_epoch", [0, 1])
def test_lightnings_finder_before_there_is_an_average(tmp_path: Path, start_epoch: int) -> None:
    """The module as it stands teaches, so that time, memory and the labels' format are those of the training."""
    mixing, student = callback(start_epoch=start_epoch, targets="soft"), Classifier()
    finder = LearningRateFinder(num_training_steps=3, early_stop_threshold=None, update_attr=False)
    make_trainer(tmp_path, finder, mixing, limit_val_batches=0, max_epochs=2).fit(student, bright())
    assert student.sizes[-3:] == [8, 8, 8]
    assert set(student.sizes[:-6]) == {4 if start_epoch else 8}
    assert {targets.shape[1:] for targets in student.targets} == {(3,)}
    assert mixing.state_dict()["average"]["updates"] == 6


@pytest.mark.parametrize("milestone", [0, 1])
def test_lightnings_finder_in_the_midst_of_a_training(tmp_path: Path, milestone: int) -> None:
    """The average goes on after the trial run, and checkpoints hold what teaches."""

    class LateFinder(LearningRateFinder):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            pass

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == milestone:
                self.lr_find(trainer, pl_module)

    finder = LateFinder(num_training_steps=3, early_stop_threshold=None, update_attr=False)
    mixing = callback(start_epoch=0)
    make_trainer(tmp_path, finder, mixing, limit_val_batches=0, max_epochs=2).fit(Classifier(), bright())
    average = mixing.state_dict()["average"]
    assert average["updates"] == 6
    assert mixing.teacher is not None
    assert_same_tensors(average["weights"], weights(mixing.teacher.module))


def test_a_finder_takes_nothing_from_the_fit_before(tmp_path: Path) -> None:
    finder = LearningRateFinder(num_training_steps=3, early_stop_threshold=None, update_attr=False)
    mixing = callback(start_epoch=0)
    for more in ([], [finder]):  # two trainers and two modules
        make_trainer(tmp_path, *more, mixing, limit_val_batches=0).fit(Classifier(), bright())
        assert mixing.state_dict()["average"]["updates"] == 3


def test_a_callback_that_was_fitted_resumes_in_another_trainer(tmp_path: Path) -> None:
    mixing = callback(start_epoch=0)
    trainer = make_trainer(tmp_path, mixing, limit_val_batches=0)
    trainer.fit(Classifier(), bright())
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    longer = make_trainer(tmp_path, mixing, limit_val_batches=0, max_epochs=2)
    longer.fit(Classifier(), bright(), ckpt_path=tmp_path / "first.ckpt", weights_only=True)
    assert mixing.state_dict()["average"]["updates"] == 6  # 3 of each epoch


@pytest.mark.parametrize("ours", [True, False])
def test_a_module_that_optimizes_by_itself_moves_its_average(tmp_path: Path, ours: bool) -> None:
    """Lightning counts the steps of its own optimizers alone."""

    class Manual(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            optimizer = self.optimizers(use_pl_optimizer=ours)
            loss = super().training_step(batch, batch_idx)
            loss.backward()
            if batch_idx != 1:  # gradients are accumulated
                optimizer.step()  # pyright: ignore[reportAttributeAccessIssue]
                optimizer.zero_grad()  # pyright: ignore[reportAttributeAccessIssue]
            return loss

    mixing = callback(start_epoch=0)
    make_trainer(tmp_path, mixing, limit_val_batches=0).fit(Manual(), bright())
    assert mixing.state_dict()["average"]["updates"] == 2


def test_cost_in_the_logs(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, callback(start_epoch=0))
    trainer.fit(Classifier(), bright())
    assert 0 < trainer.callback_metrics["supermix/average_ms"] < 1000


@pytest.mark.parametrize("step", [6, *(pytest.param(step, marks=pytest.mark.slow) for step in (2, 8))])
@pytest.mark.parametrize("engine", ["batch", "stream"])
def test_resumes_exactly(tmp_path: Path, engine: str, step: int) -> None:
    def mixing() -> SuperMixCallback:
        return callback(MovingAverage(0.9), engine=engine, save_state=True)

    saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1, save_on_train_epoch_end=False)
    first, again = mixing(), mixing()
    whole = fit(tmp_path, first, saving)
    resumed = fit(tmp_path / "again", again, resume=tmp_path / f"step={step}.ckpt")
    assert resumed.sizes == whole.sizes[step:]
    assert_same_tensors(resumed.state_dict(), whole.state_dict())
    for one, two in zip(
        first.state_dict()["average"]["weights"].values(),
        again.state_dict()["average"]["weights"].values(),
        strict=True,
    ):
        assert torch.equal(one, two)


def test_checkpoint_of_a_run_without_average(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    fit(tmp_path, callback(Teacher), saving)
    with pytest.warns(UserWarning, match='The checkpoint is of a run without teacher="ema"'):
        fit(tmp_path, callback(), resume=tmp_path / "step=4.ckpt")


def test_gradients_are_accumulated(tmp_path: Path) -> None:
    mixing = callback()
    fit(tmp_path, mixing, accumulate_grad_batches=3)
    assert mixing._supervision.average is not None
    assert mixing._supervision.average.updates == EPOCHS


def test_a_run_teaches_the_next(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, "first")
    fit(tmp_path, callback(Teacher), saving)
    mixing = callback(str(tmp_path / "first.ckpt"), start_epoch=0)
    student = fit(tmp_path, mixing)
    assert student.sizes == 12 * [8]
    assert mixing.teacher is not None
    kept = torch.load(tmp_path / "first.ckpt", weights_only=True)["state_dict"]
    assert_same_tensors({**mixing.teacher.module.state_dict()}, kept)


def test_no_such_checkpoint() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"expected teacher=.gone\.ckpt. to be the checkpoint of an earlier run"
    ):
        callback("gone.ckpt")


def test_an_average_that_knows_nothing_is_reported(tmp_path: Path) -> None:
    class Ignorant(Classifier):
        def forward(self, images: Tensor) -> Tensor:
            return self.network(images) * 0 + torch.tensor([0.0, 0.0, 9.0]) * images[:, 0, 0, 0].sign()[:, None]

    mixing = callback(start_epoch=0)
    trainer = make_trainer(tmp_path, mixing, limit_val_batches=0)
    batches = [(torch.rand(32, 3, 8, 8), torch.zeros(32, dtype=torch.long)) for _ in range(8)]
    with pytest.warns(UserWarning, match="no more than chance. It is the average of the trained module"):
        trainer.fit(Ignorant(), torch.utils.data.DataLoader(batches, batch_size=None))  # pyright: ignore[reportArgumentType]


def test_sharded_modules_are_refused(tmp_path: Path) -> None:
    class Sharding(SingleDeviceStrategy):
        pass

    Sharding.__name__ = "FSDPStrategy"
    trainer = make_trainer(tmp_path, callback(), limit_val_batches=0, strategy=Sharding(device=torch.device("cpu")))
    with pytest.raises(ValueError, match="got one that FSDPStrategy shards"):
        trainer.fit(Classifier(), loader())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_module(tmp_path: Path) -> None:
    plain, mixing = fit(tmp_path, callback()), callback()
    torch.manual_seed(0)
    student = Classifier()
    student.network.dropout.p = 0.0
    compiled = torch.compile(student)
    make_trainer(tmp_path, mixing, max_epochs=EPOCHS).fit(compiled, bright())  # pyright: ignore[reportArgumentType]
    assert student.sizes == 6 * [4] + 6 * [8]
    assert mixing.teacher is not None
    assert not hasattr(mixing.teacher.module.forward, "_torchdynamo_orig_callable")
    torch.testing.assert_close(student.network.head.weight, plain.network.head.weight, atol=1e-3, rtol=1e-3)


class Reporting(Classifier):
    """Writes the average of its rank."""

    def __init__(self, folder: Path, mixing: SuperMixCallback) -> None:
        super().__init__()
        self.folder, self.mixing = folder, mixing

    def on_train_end(self) -> None:
        state = self.mixing.state_dict()["average"]
        torch.save({"sizes": self.sizes, "own": self.state_dict(), **state}, self.folder / f"{self.global_rank}.pt")


@pytest.mark.slow
def test_two_processes_agree(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "tests.integration.test_self_teacher", str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert [rank["updates"] for rank in ranks] == [EPOCHS * 3, EPOCHS * 3]
    assert_same_tensors(ranks[0]["weights"], ranks[1]["weights"])
    means = [rank["own"]["network.norm.running_mean"] for rank in ranks]
    assert not torch.equal(*means)  # each rank has seen images of its own
    assert torch.equal(ranks[1]["weights"]["network.norm.running_mean"], means[0])
    assert [rank["sizes"] for rank in ranks] == 2 * [6 * [4] + 6 * [8]]


if __name__ == "__main__":
    on_two = callback()
    module = Reporting(Path(sys.argv[1]), on_two)
    apart = DDPStrategy(start_method="fork", broadcast_buffers=False)  # so that the ranks' statistics differ
    make_trainer(Path(sys.argv[1]), on_two, strategy=apart, devices=2, max_epochs=EPOCHS).fit(module, Bright(24))
