"""Training a network on labels of any format."""

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics.classification import MulticlassAccuracy

from supermix_pl.losses import soft_cross_entropy
from supermix_pl.metrics import accuracy

Batch = tuple[Float[Tensor, "b c h w"], Any]


class Classification(pl.LightningModule):
    """Cross-entropy on whatever reaches `training_step`; top-1 accuracy of the last and of the best epoch.

    Args:
        network: Gives logits (b, n) of images (b, c, h, w).
        num_classes: n.
        optimizer: Builds the optimiser from the parameters.
        scheduler: Builds a schedule from the optimiser and the number of its steps.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
    ) -> None:
        super().__init__()
        self.network = network
        self.best_accuracy = 0.0
        self.best_epoch = 0
        self._optimizer = optimizer
        self._scheduler = scheduler
        self.validation_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Give the network's logits."""
        return self.network(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Classify the batch as it comes."""
        images, targets = batch
        logits = self(images)
        return self.log_step(soft_cross_entropy(logits, targets), logits, targets)

    def log_step(self, loss: Tensor, logits: Float[Tensor, "b n"], targets: Any) -> Tensor:
        """Log loss and accuracy of a training batch; give the loss."""
        self.log("train/loss", loss, prog_bar=True, batch_size=len(logits))
        self.log("train/accuracy", accuracy(logits, targets), on_step=False, on_epoch=True, batch_size=len(logits))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the hits."""
        images, labels = batch
        self.validation_accuracy(self(images), labels)
        self.log("val/accuracy", self.validation_accuracy, prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the hits."""
        images, labels = batch
        self.test_accuracy(self(images), labels)
        self.log("test/accuracy", self.test_accuracy)

    def on_validation_epoch_end(self) -> None:
        """Keep the best epoch."""
        reached = float(self.validation_accuracy.compute())
        if not self.trainer.sanity_checking and reached > self.best_accuracy:
            self.best_accuracy, self.best_epoch = reached, self.current_epoch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the best epoch in the checkpoint."""
        checkpoint["best"] = {"accuracy": self.best_accuracy, "epoch": self.best_epoch}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the best epoch."""
        self.best_accuracy, self.best_epoch = checkpoint["best"]["accuracy"], checkpoint["best"]["epoch"]

    def configure_optimizers(self) -> Any:
        """Build optimiser and schedule, stepped after every batch."""
        optimizer = self._optimizer(self.network.parameters())
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError(
                "expected a training of known length, got none: set trainer.max_epochs or trainer.max_steps"
            )
        scheduler = self._scheduler(optimizer, total_steps=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@torch.no_grad()
def save_weights(module: Classification, path: str, epoch: int) -> None:
    """Write the network in the layout of published distillation teachers: {"epoch", "best_acc", "model"}."""
    weights = {name: value.detach().cpu() for name, value in module.network.state_dict().items()}
    torch.save({"epoch": epoch, "best_acc": 100 * module.best_accuracy, "model": weights}, path)
