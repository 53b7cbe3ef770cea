"""Two processes with either engine, under DDP and FSDP2: in step, agreed, alone in the solver, and resumed as one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from supermix_pl import MixedBatch, SuperMix, SuperMixCallback
from supermix_pl.engine import BatchEngine, StreamEngine
from supermix_pl.engine.stream import engine as stream
from supermix_pl.engine.stream.plan import reuse_for_budget
from tests.integration.test_ddp import first, second, sgd
from tests.integration.toys import Student, Teacher, assert_same_tensors, loader, make_trainer

NUM_IMAGES, BATCH_SIZE, EPOCHS = 72, 4, 2
STEPS = EPOCHS * NUM_IMAGES // BATCH_SIZE // 2
MIXER = SuperMix(k=2, mask_size=4, max_steps=8, max_logit_step=0.3, pairing="random")
ENGINES: dict[str, dict[str, Any]] = {"batch": {}, "stream": {"reuse": 2.0}, "budget": {"budget": 0.5}}


def build_teacher() -> Teacher:
    """Prefers class 1, so that some sets of the others take long."""
    teacher = Teacher()
    teacher.head.bias.data[1] = 8.0
    return teacher


class Collectives(TorchDispatchMode):
    """Counts what processes say to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.namespace in ("c10d", "_c10d_functional")
        return func(*args, **(kwargs or {}))


class Watched:
    """An engine that counts the collectives of each batch."""

    def mix(self, *args: Any, **kwargs: Any) -> MixedBatch:
        with Collectives() as collectives:
            mix = super().mix(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]
        SPOKEN.append(collectives.count)
        return mix


class WatchedBatch(Watched, BatchEngine):
    pass


class WatchedStream(Watched, StreamEngine):
    pass


SPOKEN: list[int] = []
MEASURED: list[float] = []


def counted(*args: Any, training: float, **kwargs: Any) -> float:
    MEASURED.append(training)
    return reuse_for_budget(*args, training=training, **kwargs)


class Reporting(Student):
    """Writes what its rank has seen, said and learnt."""

    def __init__(self, folder: Path, callback: SuperMixCallback) -> None:
        super().__init__(first, second, sgd)
        self.folder, self.callback = folder, callback
        self.gradients: list[dict[str, Tensor]] = []
        SPOKEN.clear()
        MEASURED.clear()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.gradients.append({name: whole(value.grad) for name, value in self.named_parameters()})

    def on_train_end(self) -> None:
        report = {
            "images": self.images,
            "labels": self.labels,
            "steps": [mix and mix.num_steps for mix in self.mixes],
            "sources": [mix and mix.source_indices for mix in self.mixes],
            "gradients": self.gradients,
            "weights": {name: whole(value) for name, value in self.named_parameters()},
            "spoken": list(SPOKEN),
            "measured": len(MEASURED),
            "engine": self.callback.state_dict()["engine"],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(report, self.folder / f"{self.global_rank}.pt")


def whole(value: Tensor | None) -> Tensor:
    assert value is not None
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()


class Sharded(Reporting):
    def configure_model(self) -> None:
        assert self.device_mesh is not None
        fully_shard(self.layer, mesh=self.device_mesh["data_parallel"])


def fit(folder: Path, strategy: str, engine: str, resume: Path | None = None) -> None:
    watched = WatchedBatch() if engine == "batch" else WatchedStream(**ENGINES[engine])
    callback = SuperMixCallback(build_teacher, MIXER, engine=watched, seed=1, save_state=True)
    student = (Sharded if strategy == "fsdp2" else Reporting)(folder, callback)
    saving = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    trainer = make_trainer(
        folder,
        callback,
        saving,
        enable_checkpointing=True,
        strategy=ModelParallelStrategy(2, 1) if strategy == "fsdp2" else strategy,
        devices=2,
        max_epochs=EPOCHS,
    )
    trainer.fit(student, loader(NUM_IMAGES, BATCH_SIZE), ckpt_path=resume)


def main(folder: Path, strategy: str, engines: list[str]) -> None:
    stream.reuse_for_budget = counted
    for engine in engines:
        fit(folder / engine, strategy, engine)
        if engine == "stream":
            fit(folder / "resumed", strategy, engine, folder / engine / "epoch=0.ckpt")


def run(folder: Path, strategy: str, *engines: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "tests.integration.test_stream_ddp", str(folder), strategy, *engines]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]


def reports(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def assert_as_one_process(ranks: list[dict[str, Any]]) -> None:
    """Every step's gradients are those of one process with the batches of both, and so are the final weights."""
    student = Student()
    optimizer = sgd(student.parameters())
    for step in range(len(ranks[0]["images"])):
        batch = [torch.cat([rank[field][step] for rank in ranks]) for field in ("images", "labels")]
        assert len(batch[0]) == 4 * BATCH_SIZE
        optimizer.zero_grad()
        student.loss(batch).backward()
        for name, parameter in student.named_parameters():
            for rank in ranks:
                torch.testing.assert_close(rank["gradients"][step][name], parameter.grad, atol=1e-6, rtol=1e-4)
        optimizer.step()
    for rank in ranks:
        torch.testing.assert_close(rank["weights"], dict(student.named_parameters()), atol=1e-5, rtol=1e-4)
    assert_same_tensors(ranks[0]["weights"], ranks[1]["weights"])


def assert_in_step(folder: Path, engine: str) -> None:
    ranks = reports(folder / engine)
    for rank in ranks:
        assert [len(images) for images in rank["images"]] == STEPS * [2 * BATCH_SIZE]
    assert_as_one_process(ranks)
    for own, other in zip(ranks[0]["images"], ranks[1]["images"], strict=True):
        assert not torch.equal(own, other)
    for rank in ranks:
        from_store = [bool((sources == -1).all()) for sources in rank["sources"]]
        assert set(from_store) == {engine != "batch"}
    spoken = [[count for count in rank["spoken"] if count] for rank in ranks]
    assert spoken[0] == spoken[1]
    assert len(spoken[0]) == {"batch": 0, "stream": 0, "budget": 1}[engine]  # what was measured, once
    assert [rank["measured"] for rank in ranks] == 2 * [int(engine == "budget")]
    if engine == "batch":
        return
    states = [rank["engine"] for rank in ranks]
    assert states[0]["reuse"] == states[1]["reuse"]
    assert (states[0]["reuse"] is not None) == (engine == "budget")
    assert [state["step"] for state in states] == [STEPS, STEPS]


def assert_resumed(folder: Path) -> None:
    """Each rank has a file of its own, and goes on where it was."""
    files = {path.name for path in (folder / "stream").glob("*.safetensors")}
    half = STEPS // EPOCHS
    assert files == {
        f"epoch={epoch}.ckpt.supermix-step{(epoch + 1) * half}-rank{rank}.safetensors"
        for epoch in range(EPOCHS)
        for rank in range(2)
    }
    contents = [(folder / "stream" / name).read_bytes() for name in sorted(files)]
    assert len(set(contents)) == 2 * EPOCHS
    for rank, uninterrupted in zip(reports(folder / "resumed"), reports(folder / "stream"), strict=True):
        assert len(rank["images"]) == half
        for field in ("images", "labels"):
            for value, expected in zip(rank[field], uninterrupted[field][half:], strict=True):
                assert torch.equal(value, expected)
        assert_same_tensors(rank["weights"], uninterrupted["weights"])


def test_ddp(tmp_path: Path) -> None:
    run(tmp_path, "ddp_fork", "stream")
    assert_in_step(tmp_path, "stream")
    assert_resumed(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["batch", "budget"])
def test_ddp_of_other_engines(tmp_path: Path, engine: str) -> None:
    run(tmp_path, "ddp_fork", engine)
    assert_in_step(tmp_path, engine)


@pytest.mark.slow
def test_fsdp2(tmp_path: Path) -> None:
    run(tmp_path, "fsdp2", "batch", "stream")
    for engine in ("batch", "stream"):
        assert_in_step(tmp_path, engine)
    assert_resumed(tmp_path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
