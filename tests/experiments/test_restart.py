"""The same command goes on where a run was stopped, and passes over one that is finished."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module

from supermix_pl.experiments.checkpoints import Restart
from supermix_pl.experiments.train import train

TIMES = ("fit_seconds", "ms_per_step")
RUNS = {
    "kd": ["method=kd"],
    "stream": ["method=kd_all_supermix"],
    "validated within epochs": ["method=kd", "+trainer.val_check_interval=0.4"],
    "validated every epoch": ["method=kd", "trainer.check_val_every_n_epoch=1"],
    "accumulated": ["method=kd", "trainer.accumulate_grad_batches=2"],
}
SMALL = [
    *("experiment=table2", "pair=resnet56-resnet20", "protocol=equal", "trainer.max_epochs=2", "data.batch_size=4"),
    *("scale=smoke", "network=resnet8", "network@teacher.network=resnet8", "restart.minutes=0"),
    *("trainer.limit_train_batches=null", "data.train_size=20", "trainer.precision=32-true", "callbacks=default"),
    "callbacks.progress=null",
]


@pytest.fixture(autouse=True)
def configs() -> Iterator[None]:
    with initialize_config_module("supermix_pl.conf", version_base="1.3"):
        yield


def run(folder: Path, kind: str, *overrides: str) -> dict[str, Any]:
    paths = [f"paths.root_dir={folder.parent}", f"paths.output_dir={folder}"]
    return train(compose("train", [*SMALL, *RUNS[kind], *paths, *overrides]))


def left(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], set[str]]:
    metrics = json.loads((folder / "metrics.json").read_text())
    weights = torch.load(folder / "weights.pth", weights_only=True)["model"]
    return {name: value for name, value in metrics.items() if name not in TIMES}, weights, names(folder)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != "train.log"}


class Stop(Exception):
    """As if the process was killed."""


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Stop every run behind so many checkpoints; the next one goes through."""
    save, saved = Restart._save, []

    def stopping(restart: Restart, trainer: Any) -> None:
        save(restart, trainer)
        saved.append(trainer.global_step)
        if len(saved) == count:
            raise Stop

    monkeypatch.setattr(Restart, "_save", stopping)


@pytest.mark.parametrize("kind", list(RUNS))
@pytest.mark.parametrize("count", range(1, 11))
def test_the_same_command_goes_on(tmp_path: Path, kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "whole", kind)
    stop_after(monkeypatch, count)
    try:
        run(tmp_path / "stopped", kind)
    except Stop:
        print(names(tmp_path / "stopped"))
        run(tmp_path / "stopped", kind)
    (metrics, weights, files), (again, resumed, those) = left(tmp_path / "whole"), left(tmp_path / "stopped")
    assert again == metrics
    assert those == files
    for name, value in weights.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)
