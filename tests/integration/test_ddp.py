"""Two processes: each rank mixes by its own stream of chance, and the ranks stay in step."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from supermix_pl import MixedBatch, SuperMixCallback
from tests.integration.test_packages import MixingStudent
from tests.integration.toys import (
    MIXER,
    Student,
    Teacher,
    assert_mix_of,
    assert_same_tensors,
    loader,
    make_trainer,
    natural_data,
    weights,
)

NUM_IMAGES = 48
BATCH_SIZE = 4


class Reporting(Student):
    """Writes what its rank has seen."""

    def __init__(self, folder: Path) -> None:
        super().__init__(first, second)
        self.optimizer = sgd
        self.folder = folder

    def on_train_end(self) -> None:
        report = {"images": self.images, "mixes": [mix and vars(mix) for mix in self.mixes], "weights": weights(self)}
        torch.save(report, self.folder / f"{self.global_rank}.pt")


class ReportingMixing(MixingStudent, Reporting):  # pyright: ignore[reportIncompatibleMethodOverride]
    def configure_supermix(self) -> SuperMixCallback:
        return make_callback()


def first(batch: Any) -> Any:
    return batch[0]


def second(batch: Any) -> Any:
    return batch[1]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def build_teacher() -> Teacher:
    return Teacher()


def fit_on_two(folder: Path, strategy: str, student: Reporting, *callbacks: Any) -> None:
    trainer = make_trainer(folder, *callbacks, strategy=strategy, devices=2)
    trainer.fit(student, loader(NUM_IMAGES, BATCH_SIZE))


def make_callback() -> SuperMixCallback:
    return SuperMixCallback(build_teacher, MIXER, engine="batch", probability=0.5, seed=1)


def assert_in_step(folder: Path) -> None:
    """Every rank mixed its own images with its own chance; the sizes agree, and the weights are one."""
    reports = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]
    sizes = [[len(batch) for batch in report["images"]] for report in reports]
    assert sizes[0] == sizes[1]
    assert set(sizes[0]) == {BATCH_SIZE, 2 * BATCH_SIZE}  # both kinds of batch, by probability=0.5
    assert len(sizes[0]) == NUM_IMAGES // BATCH_SIZE // 2
    mixed = [step for step, size in enumerate(sizes[0]) if size == 2 * BATCH_SIZE]
    natural = [batch[:BATCH_SIZE] for report in reports for batch in report["images"]]
    pixels = torch.cat(natural)[:, 0, 0, 0].sort().values
    assert torch.equal(pixels, natural_data(NUM_IMAGES)[0][:, 0, 0, 0].sort().values)  # every image once
    for report in reports:
        for step, mix in enumerate(report["mixes"]):
            assert (mix is not None) == (step in mixed)
            if mix is not None:
                assert_mix_of(MixedBatch(**mix), report["images"][step][:BATCH_SIZE])
                assert torch.equal(mix["images"], report["images"][step][BATCH_SIZE:])
    for name in ("source_indices", "mix_weights"):
        draws = [torch.cat([report["mixes"][step][name] for step in mixed]) for report in reports]
        assert not torch.equal(*draws)
    assert_same_tensors(reports[0]["weights"], reports[1]["weights"])
    assert not torch.equal(reports[0]["weights"]["layer.weight"], Student().layer.weight)


@pytest.mark.slow
def test_forked_from_a_script(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.integration.test_ddp", str(tmp_path)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    assert_in_step(tmp_path)


@pytest.mark.slow
def test_callback_in_spawned_processes(tmp_path: Path) -> None:
    fit_on_two(tmp_path, "ddp_spawn", Reporting(tmp_path), make_callback())
    assert_in_step(tmp_path)


@pytest.mark.slow
def test_mixin_in_spawned_processes(tmp_path: Path) -> None:
    fit_on_two(tmp_path, "ddp_spawn", ReportingMixing(tmp_path))
    assert_in_step(tmp_path)


if __name__ == "__main__":
    fit_on_two(Path(sys.argv[1]), "ddp_fork", Reporting(Path(sys.argv[1])), make_callback())
