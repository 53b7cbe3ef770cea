"""Somebody else's program, which knows nothing of us but the callback's line."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SCRIPT = """
    import copy, json
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    from torchmetrics.classification import MulticlassAccuracy
    from torchvision.models import resnet18

    from supermix_pl import SuperMix, SuperMixCallback


    class Classifier(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = resnet18(num_classes=4)
            self.accuracy = MulticlassAccuracy(4)
            self.sizes, self.labels = [], []

        def training_step(self, batch, batch_idx):
            images, labels = batch
            self.sizes.append(len(images))
            self.labels.append(labels.dtype)
            logits = self.net(images)
            self.log("accuracy", self.accuracy(logits, labels), prog_bar=True)
            return torch.nn.functional.cross_entropy(logits, labels)

        def validation_step(self, batch, batch_idx):
            assert len(batch[0]) == 8
            self.log("val_loss", torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-3)


    if __name__ == "__main__":
        pl.seed_everything(0)
        images, labels = torch.randn(24, 3, 32, 32), torch.randint(0, 4, (24,))
        loader = DataLoader(TensorDataset(images, labels), batch_size=8, shuffle=True)
        teacher = resnet18(num_classes=4)
        before = copy.deepcopy(teacher.state_dict())
        callback = SuperMixCallback(teacher, SuperMix(k=2, max_steps=5), engine="batch")
        module = Classifier()
        trainer = pl.Trainer(max_epochs=2, accelerator="cpu", callbacks=[callback], logger=False)
        trainer.fit(module, loader, loader)
        print(json.dumps({
            "sizes": module.sizes,
            "integers": all(dtype == torch.long for dtype in module.labels),
            "untouched": all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items()),
            "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
            "teacher in checkpoint": len(torch.load(trainer.checkpoint_callback.best_model_path)["state_dict"])
            != len(module.state_dict()),
        }))
"""


@pytest.mark.slow
def test_resnet_in_a_plain_program(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["sizes"] == 6 * [16]
    assert report["integers"]
    assert report["untouched"]
    assert not report["teacher in checkpoint"]
    assert report["metrics"]["supermix/steps"] >= 1
    assert report["metrics"]["supermix/teacher_forwards"] >= 8 + 8 + 8
    assert report["metrics"].keys() >= {"accuracy", "val_loss", "supermix/solved_fraction", "supermix/ms"}
