"""Every engine with every mode, label format, way to give the callback and course of a fit: one table.

Each training step looks at all that it got; `make test` runs cells in which all pairs of entries occur.
"""

import itertools
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateFinder, ModelCheckpoint
from pytorch_lightning.tuner.tuning import Tuner
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, TensorDataset

from supermix_pl import BatchEngine, MixedBatch, StreamEngine, SuperMix, SuperMixCallback, SuperMixMixin
from supermix_pl.losses import soft_cross_entropy
from supermix_pl.transforms import RandomCropFlip
from tests.integration.test_resume import Resumable, pytestmark  # noqa: F401
from tests.integration.toys import NUM_CLASSES, SIDE, assert_same_tensors, make_trainer, natural_data, weights

SIZE, BATCHES, TRIALS, SEED, PROBABILITY = 4, 3, 4, 3, 0.8
MIXER = SuperMix.fast(mask_size=4, max_steps=4)
ENGINES: dict[str, Any] = {
    "batch": BatchEngine,
    "stream": lambda: StreamEngine(slots=8, reuse=2),
    "budget": lambda: StreamEngine(slots=8, budget=0.5),  # chooses its reuse before the eleventh mixed batch
}
EPOCHS = {"batch": 3, "stream": 3, "budget": 6}
SAVED_AT = {"batch": 5, "stream": 5, "budget": 16}  # a step in the middle of an epoch; of a budget behind its choice
MODES, MODULES = ("extend", "replace"), ("plain", "mixin")
TARGETS: tuple[Any, ...] = ("teacher", "soft", "teacher_soft", "pairs")
COURSES = ("accumulation", "val_check_interval", "stop_epoch", "lr_find", "finder callback", "resume")


class Cell(NamedTuple):
    engine: str
    mode: Any
    targets: Any
    module: str
    course: str

    @property
    def epochs(self) -> int:
        return EPOCHS[self.engine]

    @property
    def steps(self) -> int:
        return BATCHES * self.epochs


TABLE = [Cell(*entries) for entries in itertools.product(ENGINES, MODES, TARGETS, MODULES, COURSES)]
QUICK = [
    Cell([*ENGINES][(x + y) % 3], MODES[(y // 2 + x) % 2], targets, MODULES[(y + x // 2) % 2], course)
    for y, course in enumerate(COURSES)
    for x, targets in enumerate(TARGETS)
]  # fmt: skip
ON_TWO = [  # ddp_spawn, two processes
    Cell("batch", "extend", "teacher", "plain", "ddp"),
    Cell("stream", "replace", "soft", "mixin", "ddp"),
    Cell("budget", "extend", "pairs", "mixin", "ddp"),
    Cell("stream", "extend", "teacher_soft", "plain", "ddp"),
]


class Flat(nn.Module):
    """Knows the bright channel, and has a weight of its own for each pixel, so that each view has other logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(NUM_CLASSES * SIDE**2, NUM_CLASSES)
        noise = torch.randn(NUM_CLASSES, NUM_CLASSES, SIDE**2, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            self.layer.weight.copy_((torch.eye(NUM_CLASSES)[:, :, None] * 20 + 5 * noise).flatten(1) / SIDE**2)
            self.layer.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))


TEACHER = Flat().requires_grad_(False)


class Data(Resumable):
    """Its labels are of a type that every format of a mixed batch changes."""

    def __init__(self) -> None:
        super().__init__()
        self.labels = self.labels.to(torch.uint8)


def small_labels(count: int) -> DataLoader:
    images, labels = natural_data(count, seed=1)
    return DataLoader(TensorDataset(images, labels.to(torch.uint8)), SIZE)


def make_callback(cell: Cell) -> SuperMixCallback:
    return SuperMixCallback(
        Flat(), MIXER, mode=cell.mode, targets=cell.targets, label_natural=True, engine=ENGINES[cell.engine](),
        mixed_transform=RandomCropFlip(padding=1), probability=PROBABILITY, seed=SEED, save_state=True,
        stop_epoch=cell.epochs - 1 if cell.course == "stop_epoch" else None,
    )  # fmt: skip


class Looking(pl.LightningModule):
    """Looks at every batch that it gets, and keeps the images of those that it trains on."""

    def __init__(self, cell: Cell, folder: Path) -> None:
        super().__init__()
        self.cell, self.folder, self.callback = cell, folder, make_callback(cell)
        self.learning_rate = 0.1
        self.layer = nn.Linear(NUM_CLASSES * SIDE**2, NUM_CLASSES)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.given: list[Tensor] = []
        self.shown: list[Tensor] = []
        self.optimizer_steps = self.validated = 0
        self.mixed: list[bool] = []

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.given = [value.clone() for value in batch]
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (images, labels), mix = batch, self.callback.mix
        number, natural = self.trainer.fit_loop.total_batch_idx, self.given[0]
        late = self.cell.course == "stop_epoch" and self.current_epoch >= self.cell.epochs - 1
        mixed = not late and np.random.default_rng([SEED, number]).random() < PROBABILITY
        assert (mix is not None) == mixed
        kept = 0 if mixed and self.cell.mode == "replace" else SIZE
        assert len(images) == kept + SIZE * mixed
        assert torch.equal(images[:kept], natural[:kept])
        logits = TEACHER(images)
        assert self.callback.teacher_logits is not None
        torch.testing.assert_close(self.callback.teacher_logits, logits)
        if mix is not None:
            assert torch.equal(images[kept:], mix.images)
            assert not any(torch.allclose(image, other, atol=0.01) for image in mix.images for other in natural)
            torch.testing.assert_close(mix.teacher_logits, logits[kept:])
        parts = labels if isinstance(labels, tuple) else (labels,)
        for part, expected in zip(parts, expected_labels(self.cell, self.given[1][:kept], mix, logits), strict=True):
            torch.testing.assert_close(part, expected)  # dtype and shape too
        if isinstance(self, SuperMixMixin):
            assert self.mix is mix
            assert self.teacher_logits is self.callback.teacher_logits
        self.shown.append(images)
        self.mixed.append(mixed)
        return soft_cross_entropy(self.layer(images.flatten(1)), labels)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        own = natural_data(SIZE, seed=2)
        assert all(map(torch.equal, self.trainer.strategy.batch_to_device(own), own))

    def on_validation_epoch_end(self) -> None:
        self.assert_let_go()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.assert_let_go()
        assert all(map(torch.equal, batch, self.given))
        assert batch[1].dtype == torch.uint8
        self.validated += not self.trainer.sanity_checking

    def assert_let_go(self) -> None:
        assert self.callback.mix is None
        assert self.callback.teacher_logits is None

    def on_train_start(self) -> None:
        trainer: Any = self.trainer
        if self.callback in trainer.callbacks:  # a finder's trial run calls none of its hooks
            self.assert_let_go()

    on_train_epoch_start = on_train_epoch_end = on_train_start

    def on_train_end(self) -> None:
        self.on_train_start()
        trainer: Any = self.trainer
        if self.callback in trainer.callbacks:
            assert trainer.global_step == self.cell.epochs * -(-BATCHES // trainer.accumulate_grad_batches)
        if self.cell.course == "ddp":
            report = {"rows": [len(images) for images in self.shown], "weights": weights(self), "shown": self.shown}
            torch.save(report, self.folder / f"{self.global_rank}.pt")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.optimizer_steps += 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)


class LookingMixin(SuperMixMixin, Looking):
    def configure_supermix(self) -> SuperMixCallback:
        return self.callback


def expected_labels(cell: Cell, labels: Tensor, mix: MixedBatch | None, logits: Tensor) -> list[Tensor]:
    """The labels of the natural images that are shown, then those of the mixes: two tensors for pairs, else one."""
    first = torch.tensor([[1.0, 0.0]]).expand(len(labels), 2)
    by_class = one_hot(labels.long(), NUM_CLASSES).float()
    natural = {"teacher": [labels.long()], "pairs": [labels.long()[:, None].expand(-1, 2), first]}
    parts = natural.get(cell.targets, [by_class])
    if mix is None:
        return parts
    logits = logits[len(labels) :]
    mixed = {
        "teacher": [logits.argmax(dim=1)],
        "soft": [(one_hot(mix.source_classes, NUM_CLASSES) * mix.mix_weights[:, :, None]).sum(dim=1)],
        "teacher_soft": [logits.softmax(dim=1)],
        "pairs": [mix.source_classes, mix.mix_weights],
    }[cell.targets]
    return [torch.cat(pair) for pair in zip(parts, mixed, strict=True)]


def fit(cell: Cell, folder: Path, *callbacks: Any, resume: Path | None = None, **options: Any) -> Looking:
    """Fit, and see that nothing is left of it."""
    student = (LookingMixin if cell.module == "mixin" else Looking)(cell, folder)
    given = callbacks if cell.module == "mixin" else [student.callback, *callbacks]
    sanity = 0 if cell.course == "finder callback" else 2  # with none the trial run is last before the real one
    trainer = make_trainer(folder, *given, max_epochs=cell.epochs, num_sanity_val_steps=sanity, **options)
    methods = set(vars(trainer.strategy))
    data = (small_labels(2 * SIZE * BATCHES) if cell.course == "ddp" else Data()), small_labels(2 * SIZE)
    if cell.course == "lr_find" and resume is None:
        Tuner(trainer).lr_find(student, *data, num_training=TRIALS, early_stop_threshold=None, update_attr=False)
        student.assert_let_go()
    trainer.fit(student, *data, ckpt_path=resume, weights_only=resume and True)
    assert set(vars(trainer.strategy)) == methods
    student.assert_let_go()
    assert repr(pickle.loads(pickle.dumps(student.callback))) == repr(student.callback)
    return student


def assert_continues(student: Looking, whole: Looking, first: int) -> None:
    """It trained as the whole run from a step on, to the bit."""
    assert len(student.shown) == len(whole.shown) - first
    assert all(map(torch.equal, student.shown, whole.shown[first:]))
    assert_same_tensors(weights(student), weights(whole))


def run(cell: Cell, folder: Path) -> None:
    """What the course of a fit promises, beside what each step looks at."""
    plain = cell._replace(course="plain")
    if cell.course == "resume":
        step = SAVED_AT[cell.engine]
        saving = ModelCheckpoint(
            folder, "{step}", every_n_train_steps=step, save_top_k=-1, save_on_train_epoch_end=False
        )
        whole = fit(cell, folder, saving, enable_checkpointing=True)
        assert cell.engine != "budget" or sum(whole.mixed[:step]) > 10
        assert_continues(fit(cell, folder / "resumed", resume=folder / f"step={step}.ckpt"), whole, step)
    elif cell.course in ("lr_find", "finder callback"):
        whole = fit(plain, folder)
        finder = LearningRateFinder(num_training_steps=TRIALS, early_stop_threshold=None, update_attr=False)
        student = fit(cell, folder, *([finder] if cell.course == "finder callback" else []))
        trials = len(student.shown) - cell.steps
        assert trials >= TRIALS
        assert student.optimizer_steps == trials + cell.steps
        if cell.engine == "budget":  # from the eleventh mixed batch on it depends on measured times
            alike = [number for number in range(cell.steps) if sum(whole.mixed[: number + 1]) <= 10]
            assert all(torch.equal(student.shown[trials + number], whole.shown[number]) for number in alike)
        else:
            del student.shown[:trials]
            assert_continues(student, whole, 0)
    else:
        options: dict[str, Any] = {
            "accumulation": {"accumulate_grad_batches": 2},
            "val_check_interval": {"val_check_interval": 2, "check_val_every_n_epoch": None},
        }.get(cell.course, {})
        student = fit(cell, folder, **options)
        assert len(student.shown) == cell.steps
        assert student.optimizer_steps == cell.epochs * (2 if cell.course == "accumulation" else BATCHES)
        assert student.validated == 2 * (cell.steps // 2 if cell.course == "val_check_interval" else cell.epochs)
        assert {True, False} == set(student.mixed)


@pytest.mark.parametrize("cell", QUICK, ids="-".join)
def test_every_pair(tmp_path: Path, cell: Cell) -> None:
    run(cell, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [cell for cell in TABLE if cell not in QUICK], ids="-".join)
def test_every_combination(tmp_path: Path, cell: Cell) -> None:
    run(cell, tmp_path)


def test_all_pairs_of_entries_are_in_the_quick_cells() -> None:
    for first, second in itertools.combinations(range(len(Cell._fields)), 2):
        assert {(cell[first], cell[second]) for cell in QUICK} == {(cell[first], cell[second]) for cell in TABLE}


@pytest.mark.slow
@pytest.mark.parametrize("cell", ON_TWO, ids="-".join)
def test_two_spawned_processes(tmp_path: Path, cell: Cell) -> None:
    fit(cell, tmp_path, strategy="ddp_spawn", devices=2)
    reports = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert reports[0]["rows"] == reports[1]["rows"]
    assert len(reports[0]["rows"]) == cell.steps
    assert_same_tensors(reports[0]["weights"], reports[1]["weights"])
    assert not any(map(torch.equal, reports[0]["shown"], reports[1]["shown"]))
