"""A run that stops in the middle of an epoch and is resumed ends with the weights of one that went through."""

from pathlib import Path

import pytest
import torch

from supermix_pl.experiments.train import train
from tests.composing import compose

STOP = {
    "callbacks.stop._target_": "pytorch_lightning.callbacks.ModelCheckpoint",
    "callbacks.stop.every_n_train_steps": 1,
}


def weights(folder: Path, method: str, *overrides: str) -> dict[str, torch.Tensor]:
    small = ["pair=resnet56-resnet20", "network=resnet8", "network@teacher.network=resnet8", "scale=smoke"]
    paths = [f"paths.root_dir={folder.parent}", f"paths.output_dir={folder}"]
    own = ["trainer.max_epochs=2", "trainer.limit_train_batches=null", "data.train_size=20", "num_mixes=20"]
    train(
        compose("train", [*small, f"method={method}", "protocol=equal", "data.batch_size=4", *own, *paths, *overrides])
    )
    return torch.load(folder / "weights.pth", weights_only=True)["model"]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # the one that saved is not needed again
@pytest.mark.parametrize("method", [pytest.param("kd", marks=pytest.mark.slow), "kd_supermix"])
@pytest.mark.parametrize("steps", [3, pytest.param(7, marks=pytest.mark.slow)])
def test_resuming_within_an_epoch_changes_nothing(tmp_path: Path, method: str, steps: int) -> None:
    whole = weights(tmp_path / "whole", method)
    saving = [f"++{name}={value}" for name, value in STOP.items()]
    saving += [
        f"++callbacks.stop.dirpath={tmp_path}/saved",
        "++callbacks.stop.filename='{step}'",
        "++callbacks.stop.save_top_k=-1",
    ]
    weights(tmp_path / "first", method, *saving)

    resumed = weights(tmp_path / "second", method, f"ckpt_path='{tmp_path}/saved/step={steps}.ckpt'")

    assert resumed.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)
