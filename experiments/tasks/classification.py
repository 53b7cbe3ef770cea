"""Training a network on labels of any format."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from supermix_pl import FrozenTeacher, SuperMixCallback
from supermix_pl.arguments import check_not_negative, check_one_of
from supermix_pl.experiments.shared.files import save_whole
from supermix_pl.losses import soft_cross_entropy
from supermix_pl.metrics import accuracy, teacher_agreement, teacher_divergence

Batch = tuple[Float[Tensor, "b c h w"], Any]
_AVERAGES = ("kinds", "rows")


class Classification(pl.LightningModule):
    """Cross-entropy on whatever reaches `training_step`; accuracy of the last and of the best epoch.

    loss = ce_weight (CE natural + CE mixed); where a batch is not extended by mixes, and with average="rows",
    ce_weight CE.

    Args:
        network: Gives logits (b, n) of images (b, c, h, w).
        num_classes: n.
        optimizer: Builds the optimiser from the parameters.
        scheduler: Builds a schedule from the optimiser and the number of its steps.
        ce_weight: Weight of the cross-entropy, >= 0.
        average: Of a batch that mixes extend: "kinds" adds the mean over its natural images and that over its mixes, as
            the authors' code does; "rows" is the mean over all of them, as in any module that knows of no mixes.
        separate_forwards: Whether natural and mixed images pass the student apart, so that batch norm sees them apart
            as in the authors' code.
        reference: A teacher that tests measure too, as teacher/accuracy and teacher/accuracy_top5, and compare the
            network with, as test/teacher_agreement and test/teacher_kl; None for none.

    Attributes:
        mixing: The callback of the trainer that mixes the batches; None without.
        best: Accuracies of the best epoch, and its number; empty before the first validation.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
        ce_weight: float = 1.0,
        average: str = "kinds",
        separate_forwards: bool = False,
        reference: FrozenTeacher | None = None,
    ) -> None:
        super().__init__()
        check_not_negative("ce_weight", ce_weight)
        check_one_of("average", average, _AVERAGES)
        self.network = network
        self.mixing: SuperMixCallback | None = None
        self.ce_weight = ce_weight
        self.average = average
        self.separate_forwards = separate_forwards
        self.reference = reference
        self.best: dict[str, float] = {}
        self._optimizer = optimizer
        self._scheduler = scheduler
        top5 = MulticlassAccuracy(num_classes, average="micro", top_k=min(5, num_classes))
        hits = MetricCollection({"accuracy": MulticlassAccuracy(num_classes, average="micro"), "accuracy_top5": top5})
        self.validation_hits, self.test_hits, self.teacher_hits = (
            hits.clone(prefix=f"{name}/") for name in ("val", "test", "teacher")
        )

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return self.network(images)

    def setup(self, stage: str) -> None:
        callbacks = self.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        self.mixing = next((each for each in callbacks if isinstance(each, SuperMixCallback)), None)

    def on_train_start(self) -> None:
        """Take up the loader's place in the epoch, which Lightning passes over where the data is set up early.

        `configure_optimizers` sets it up, before the state of a resumed run is at hand, to know the number of steps.
        """
        self.trainer.fit_loop._load_combined_loader_states()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Classify the batch as it comes."""
        images, targets = self.labelled(batch)
        logits = self.classify(images)
        return self.log_step(self.cross_entropy(logits, targets), logits, targets)

    def labelled(self, batch: Batch) -> Batch:
        """Return the images of a training batch with its labels, or with the teacher's, where `target_key` is None."""
        images, targets, *_ = batch
        of_teacher = None if self.mixing is None else self.mixing.teacher_labels
        return images, targets if of_teacher is None else of_teacher

    def num_natural(self, count: int) -> int:
        """Count the natural images of a batch of so many; they stand first."""
        mix = None if self.mixing is None else self.mixing.mix
        return count if mix is None else count - len(mix)

    def sum_over_kinds(self, loss: Callable[[slice], Tensor], count: int) -> Tensor:
        """Return the loss of the rows of a batch of so many; with average="kinds" that of natural images + of mixes."""
        natural = self.num_natural(count)
        if self.average == "kinds" and 0 < natural < count:
            return loss(slice(natural)) + loss(slice(natural, None))
        return loss(slice(count))

    def classify(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Return the logits of a training batch, in one forward or in two."""
        natural = self.num_natural(len(images))
        if not self.separate_forwards or natural in (0, len(images)):
            return self(images)
        return torch.cat([self(images[:natural]), self(images[natural:])])

    def cross_entropy(self, logits: Float[Tensor, "b n"], targets: Any) -> Tensor:
        """Weigh the cross-entropy of the batch."""
        return self.ce_weight * self.sum_over_kinds(
            lambda rows: soft_cross_entropy(logits[rows], rows_of(targets, rows)), len(logits)
        )

    def log_step(self, loss: Tensor, logits: Float[Tensor, "b n"], targets: Any) -> Tensor:
        """Log loss and accuracy of a training batch; give the loss."""
        self.log("train/loss", loss, prog_bar=True, batch_size=len(logits))
        self.log("train/accuracy", accuracy(logits, targets), on_step=False, on_epoch=True, batch_size=len(logits))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the hits."""
        images, labels, *_ = batch
        self.validation_hits.update(self(images), labels)

    def on_test_start(self) -> None:
        if self.reference is not None:
            self.reference.to(self.device)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the hits, also the teacher's, and compare with it."""
        images, labels, *_ = batch
        logits = self(images)
        self.test_hits.update(logits, labels)
        if self.reference is not None:
            teacher_logits = self.reference(images.float())
            self.teacher_hits.update(teacher_logits, labels)
            followed = {
                "test/teacher_agreement": teacher_agreement(logits, teacher_logits),
                "test/teacher_kl": teacher_divergence(logits, teacher_logits),
            }
            self.log_dict(followed, batch_size=len(images), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        reached = {name: float(value) for name, value in self.validation_hits.compute().items()}
        self.validation_hits.reset()
        for name, value in reached.items():
            self.log(name, value, prog_bar=name == "val/accuracy")
        if not self.trainer.sanity_checking and reached["val/accuracy"] > self.best.get("accuracy", -1.0):
            best = {name: reached[f"val/{name}"] for name in ("accuracy", "accuracy_top5")}
            self.best = {**best, "epoch": self.current_epoch}

    def on_test_epoch_end(self) -> None:
        for hits in [self.test_hits] if self.reference is None else [self.test_hits, self.teacher_hits]:
            self.log_dict(hits.compute())
            hits.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["best"] = dict(self.best)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best = dict(checkpoint["best"])

    def trained_parameters(self) -> Iterable[nn.Parameter]:
        """Return what the optimiser is to train."""
        return self.network.parameters()

    def configure_optimizers(self) -> Any:
        """Build optimiser and schedule, stepped after every batch."""
        optimizer = self._optimizer(self.trained_parameters())
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError(
                "expected a training of known length, got none: set trainer.max_epochs or trainer.max_steps"
            )
        scheduler = self._scheduler(optimizer, total_steps=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def rows_of(targets: Any, rows: slice) -> Any:
    """Return the labels of some rows, in any format."""
    return targets[rows] if isinstance(targets, Tensor) else tuple(part[rows] for part in targets)


@torch.no_grad()
def save_weights(module: Classification, path: str, epoch: int) -> None:
    """Write the network in the layout of published distillation teachers: {"epoch", "best_acc", "model"}."""
    weights = {name: value.detach().cpu() for name, value in module.network.state_dict().items()}
    save_whole(Path(path), {"epoch": epoch, "best_acc": 100 * module.best.get("accuracy", 0.0), "model": weights})
