"""Contrastive distillation as a task: one step against its formula, a training that resumes, two processes."""

import copy
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.data import ImageDataModule, ResumableLoader, Shapes
from supermix_pl.experiments.data.datamodule import Opened
from supermix_pl.experiments.networks import resnet8, resnet14
from supermix_pl.experiments.networks.classifier import with_features
from supermix_pl.experiments.tasks.classification import save_weights
from supermix_pl.experiments.tasks.contrast_critic import ContrastCritic
from supermix_pl.experiments.tasks.contrastive import ContrastiveDistillation, teacher_features
from supermix_pl.experiments.tasks.schedules import constant
from tests.composing import compose
from tests.integration.toys import TRAINER, assert_same_tensors, weights

NUM_TRAIN = 13
BATCH_SIZE = 4
MEMORIES = [f"critic.{who}_memory.{what}" for who in ("student", "teacher") for what in ("rows", "normalizer")]
EMBEDDINGS = [f"critic.{who}_embedding.{what}" for who in ("student", "teacher") for what in ("weight", "bias")]


class Noise(ImageDataModule):
    def open_data(self) -> Opened:
        generator = np.random.default_rng(0)
        part = generator.integers(0, 256, (NUM_TRAIN, 3, 4, 4), dtype=np.uint8), np.arange(NUM_TRAIN) % 3
        half = (0.5, 0.5, 0.5)
        return self._opened_arrays(train=part, test=part, class_names=["a", "b", "c"], mean=half, std=half)


class Network(nn.Module):
    """Features of an image and logits of the features; what is dropped shows whether it trains."""

    def __init__(self, num_features: int, dropped: float = 0.0) -> None:
        super().__init__()
        self.stem, self.dropout, self.fc = nn.Linear(48, num_features), nn.Dropout(dropped), nn.Linear(num_features, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.dropout(self.stem(images.flatten(1)).tanh()))


def data_of(**options: Any) -> Noise:
    data = Noise(**{"batch_size": BATCH_SIZE, "seed": 5, "with_indices": True, **options})
    data.setup()
    return data


def task_of(
    teacher: FrozenTeacher | None = None, network: nn.Module | None = None, seed: int = 0, **options: Any
) -> Any:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "num_classes": 3,
        "optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "scheduler": constant,
        "train_labels": np.arange(NUM_TRAIN) % 3,
        "critic": partial(ContrastCritic, embedding_size=4, num_negatives=5, temperature=0.2, seed=seed),
        **options,
    }
    teacher = teacher or FrozenTeacher(
        Network(7, dropped=0.5), mean=[0.4] * 3, std=[0.3] * 3, input_mean=[0.5] * 3, input_std=[0.5] * 3
    )
    return ContrastiveDistillation(network or Network(6), teacher=teacher, **settings)


def alone(task: ContrastiveDistillation, number: int = 0) -> ContrastiveDistillation:
    """Give the task what it asks of a trainer, so that single steps can be looked at."""
    progress = SimpleNamespace(total=SimpleNamespace(completed=number))
    strategy = SimpleNamespace(all_gather=lambda values, **_: values)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    task.trainer = SimpleNamespace(fit_loop=loop, global_rank=0, strategy=strategy)  # pyright: ignore[reportAttributeAccessIssue]
    task.log = lambda *_, **__: None
    return task


def first_batch() -> tuple[Tensor, Tensor, Tensor]:
    return next(iter(data_of().train_dataloader()))  # pyright: ignore[reportReturnType]


def fit(folder: Path, *callbacks: Callback, task: Any = None, resume: Path | None = None, **options: Any):
    task = task or task_of()
    settings: dict[str, Any] = {**TRAINER, "max_epochs": 3, "limit_val_batches": 0, "log_every_n_steps": 1, **options}
    trainer = pl.Trainer(callbacks=list(callbacks), default_root_dir=folder, **settings)
    trainer.fit(task, data_of(), ckpt_path=resume, weights_only=resume and True)
    return task


class Save(Callback):
    """Saves a checkpoint after every step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


def test_a_step_is_cross_entropy_and_contrast_and_trains_all_but_the_teacher() -> None:
    task = alone(task_of(ce_weight=0.5, crd_weight=2.0), number=7)
    images, labels, indices = first_batch()
    module = task.teacher.module
    untouched = weights(module)
    module.train()  # as some user's code may do
    loss = task.training_step((images, labels, indices), 0)

    logits, features = with_features(task.network, images)
    seen = ((images * 0.5 + 0.5) - 0.4) / 0.3  # in the teacher's normalisation
    matched = module.get_submodule("stem")(seen.flatten(1)).tanh()
    contrast = task.critic(*task.critic.embed(features, matched), indices, stream=(0, 7))
    torch.testing.assert_close(loss, 0.5 * cross_entropy(logits, labels) + 2 * contrast)

    loss.backward()
    trained = dict(task.named_parameters())
    assert {id(weight) for weight in task.trained_parameters()} == {id(weight) for weight in trained.values()}
    assert {name for name, weight in trained.items() if weight.grad is not None and weight.grad.any()} == set(trained)
    assert set(EMBEDDINGS) < set(trained)
    assert all(weight.grad is None for weight in module.parameters())
    assert_same_tensors(weights(module), untouched)


def test_contrast_alone_reaches_the_student() -> None:
    task = alone(task_of(ce_weight=0.0))
    task.training_step(first_batch(), 0).backward()
    gradient = task.get_parameter("network.stem.weight").grad
    assert gradient is not None
    assert gradient.abs().max() > 1e-4


def test_memories_move_after_backward_to_what_the_step_has_seen() -> None:
    task = alone(task_of())
    batch = first_batch()
    before = weights(task.critic)
    task.training_step(batch, 0).backward()
    assert torch.equal(task.critic.student_memory.rows, before["student_memory.rows"])
    _, features = with_features(task.network, batch[0])
    embeddings = task.critic.embed(features, teacher_features(task.teacher, batch[0]))
    task.on_after_backward()
    for name, seen in zip(("student", "teacher"), embeddings, strict=True):
        rows, old = task.critic.get_buffer(f"{name}_memory.rows"), before[f"{name}_memory.rows"]
        moved = (0.5 * old[batch[2]] + 0.5 * seen).detach()
        torch.testing.assert_close(rows[batch[2]], moved / moved.norm(dim=1, keepdim=True))
        others = torch.ones(NUM_TRAIN, dtype=torch.bool).index_fill(0, batch[2], False)
        assert torch.equal(rows[others], old[others])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[ContrastiveDistillation, Path]:
    """An uninterrupted run with a checkpoint after every step."""
    folder = tmp_path_factory.mktemp("whole")
    return fit(folder, Save(folder)), folder


def test_a_training_takes_every_sample_into_the_memories(whole: tuple[ContrastiveDistillation, Path]) -> None:
    rows = whole[0].critic.student_memory.rows
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(NUM_TRAIN))
    assert not torch.isclose(task_of().critic.student_memory.rows.norm(dim=1), torch.ones(NUM_TRAIN)).any()


def test_the_checkpoint_holds_memories_embeddings_and_the_first_normalizers(
    whole: tuple[ContrastiveDistillation, Path],
) -> None:
    first, last = (torch.load(whole[1] / f"{step}.ckpt", weights_only=True)["state_dict"] for step in (1, 12))
    assert {name for name in first if name.startswith("critic.")} == {*MEMORIES, *EMBEDDINGS}
    assert not any("teacher" in name for name in first if not name.startswith("critic."))
    assert torch.equal(last[MEMORIES[0]], whole[0].critic.student_memory.rows)
    for name in MEMORIES[1::2]:
        assert first[name] > 0
        assert torch.equal(first[name], last[name])


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_resumed_after_any_step(whole: tuple[ContrastiveDistillation, Path], tmp_path: Path, step: int) -> None:
    resumed = fit(tmp_path, resume=whole[1] / f"{step}.ckpt", task=task_of(network=Network(6)))
    assert_same_tensors(weights(resumed), weights(whole[0]))


def test_the_seed_names_the_negatives(whole: tuple[ContrastiveDistillation, Path], tmp_path: Path) -> None:
    with isolate_rng():
        torch.manual_seed(3)
        again = fit(tmp_path)
    assert_same_tensors(weights(again), weights(whole[0]))
    other = task_of(seed=1)
    other.critic.load_state_dict(task_of().critic.state_dict())
    fit(tmp_path, task=other)
    assert not torch.equal(other.critic.student_embedding.weight, again.critic.student_embedding.weight)


def test_the_critic_runs_in_float32_under_mixed_precision(tmp_path: Path) -> None:
    task, seen = task_of(), []
    task.critic.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs[:2]))
    task.critic.register_forward_hook(lambda module, inputs, loss: seen.append(loss))
    task.network.stem.register_forward_hook(lambda module, inputs, output: seen.append(output))  # pyright: ignore
    fit(tmp_path, task=task, precision="bf16-mixed", max_epochs=1, limit_train_batches=1)
    assert [value.dtype for value in seen] == [torch.bfloat16, *3 * [torch.float32]]
    assert task.critic.student_memory.rows.dtype == torch.float32


def test_weights_hold_the_student_alone(tmp_path: Path) -> None:
    task = task_of()
    save_weights(task, str(tmp_path / "weights.pth"), 1)
    kept = torch.load(tmp_path / "weights.pth", weights_only=True)["model"]
    assert_same_tensors(kept, weights(task.network))


def test_batches_without_indices_say_what_to_set() -> None:
    with pytest.raises(ValueError, match=r"got 2 fields: set data\.with_indices=true"):
        alone(task_of()).training_step(first_batch()[:2], 0)


def test_indices_into_other_labels_are_refused_in_the_first_batch() -> None:
    with pytest.raises(ValueError, match="the classes that train_labels has there"):
        alone(task_of(train_labels=np.arange(NUM_TRAIN) % 2)).training_step(first_batch(), 0)


def test_networks_without_features_are_refused() -> None:
    convolution = nn.Sequential(nn.Conv2d(3, 3, 4), nn.Flatten())
    with pytest.raises(TypeError, match="expected a network that ends in a linear layer, got Sequential without one"):
        task_of(network=convolution)
    with pytest.raises(TypeError, match="expected a network that ends in a linear layer, got Sequential without one"):
        task_of(FrozenTeacher(convolution))
    with pytest.raises(ValueError, match=r"expected crd_weight >= 0, got -0\.5"):
        task_of(crd_weight=-0.5)


def test_the_config_trains_published_networks(tmp_path: Path) -> None:
    data = Shapes(train_size=40, test_size=10, batch_size=10, images_per_class=3, with_indices=True)
    data.setup()
    config = compose(
        "train", ["task=contrastive", "task.critic.num_negatives=6", "seed=4", f"paths.output_dir={tmp_path}"]
    )
    task = instantiate(config.task, _partial_=True)(
        network=resnet8(10),
        num_classes=10,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        scheduler=constant,
        teacher=FrozenTeacher(resnet14(10)),
        train_labels=data.train_labels,
    )
    assert (task.critic.seed, task.critic.num_negatives, len(data.train_labels)) == (4, 6, 30)
    first = weights(task)
    trainer = pl.Trainer(**TRAINER, max_steps=2, limit_val_batches=0, default_root_dir=tmp_path)
    trainer.fit(task, data)
    assert not torch.equal(task.network.conv1.weight, first["network.conv1.weight"])
    assert task.critic.student_memory.rows.shape == (30, 128)
    assert (task.critic.teacher_memory.rows != first["critic.teacher_memory.rows"]).any(dim=1).sum() == 20


class Report(Callback):
    """Writes what a rank ends with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.save(weights(pl_module), self.folder / f"{trainer.global_rank}.pt")


def by_hand(num_ranks: int, epochs: int) -> ContrastiveDistillation:
    """Train as the ranks together ought to, in one process: mean of their losses, one memory, one Z."""
    task, source = task_of(), data_of().train_dataloader().source
    optimizer = torch.optim.SGD(task.trained_parameters(), lr=0.1, momentum=0.9)
    options: dict[str, Any] = {"batch_size": BATCH_SIZE, "seed": 5, "world_size": num_ranks, "with_indices": True}
    loaders = [ResumableLoader(source, rank=rank, **options) for rank in range(num_ranks)]
    number = 0
    for epoch in range(epochs):
        for loader in loaders:
            loader.set_epoch(epoch)
        for batches in zip(*loaders, strict=True):
            losses, embedded = [], []
            outputs = [with_features(task.network, images) for images, *_ in batches]
            for (images, *_), (_, features) in zip(batches, outputs, strict=True):
                embedded.append(task.critic.embed(features, teacher_features(task.teacher, images)))
            streams = [(rank, number) for rank in range(num_ranks)]
            if number == 0:
                fix_normalizers(task, embedded, batches, streams)
            for (_, labels, indices), (logits, _), both, stream in zip(
                batches, outputs, embedded, streams, strict=True
            ):
                contrast = task.critic(*both, indices, stream=stream)
                losses.append(cross_entropy(logits, labels) + 0.8 * contrast)
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            optimizer.step()
            indices = torch.cat([indices for *_, indices in batches])
            task.critic.update(indices, *(torch.cat(rows).detach() for rows in zip(*embedded, strict=True)))
            number += 1
    return task


def fix_normalizers(task: ContrastiveDistillation, embedded: Any, batches: Any, streams: Any) -> None:
    """Set each Z to the mean of what the ranks would have found alone."""
    alone = [copy.deepcopy(task.critic) for _ in streams]
    for critic, both, (*_, indices), stream in zip(alone, embedded, batches, streams, strict=True):
        critic(*both, indices, stream=stream)
    for name in ("student_memory.normalizer", "teacher_memory.normalizer"):
        task.critic.get_buffer(name).copy_(torch.stack([critic.get_buffer(name) for critic in alone]).mean())


def assert_as_by_hand(folder: Path, num_ranks: int) -> None:
    reports = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(num_ranks)]
    for report in reports:
        assert_same_tensors(report, reports[0])
    expected = weights(by_hand(num_ranks, epochs=3))
    for name in [*MEMORIES, *EMBEDDINGS, "network.stem.weight"]:
        torch.testing.assert_close(reports[0][name], expected[name], msg=name)


def test_one_process_trains_as_by_hand(tmp_path: Path) -> None:
    fit(tmp_path, Report(tmp_path))
    assert_as_by_hand(tmp_path, 1)


@pytest.mark.slow
def test_two_processes_train_as_by_hand(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.experiments.tasks.test_contrastive", str(tmp_path)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    assert_as_by_hand(tmp_path, 2)


if __name__ == "__main__":
    fit(Path(sys.argv[1]), Report(Path(sys.argv[1])), strategy="ddp_fork", devices=2)
