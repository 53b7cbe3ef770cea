"""Training a student on labels and on its teacher's features, by contrast."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from supermix_pl import FrozenTeacher
from supermix_pl.arguments import check_not_negative
from supermix_pl.experiments.networks.classifier import last_linear, with_features
from supermix_pl.experiments.tasks.classification import Classification
from supermix_pl.experiments.tasks.contrast_critic import ContrastCritic


@torch.no_grad()
def teacher_features(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c_teacher"]:
    """Return the features that the teacher's last layer reads, in float32 at least."""
    dtype = teacher.autocast_dtype
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None):
        _, features = with_features(teacher.module.eval(), teacher.prepare(images))
    return features.to(torch.promote_types(features.dtype, torch.float32))


class ContrastiveDistillation(Classification):
    """Cross-entropy and contrastive representation distillation (CRD; Tian et al., ICLR 2020).

    loss = ce_weight CE + crd_weight CRD, see `ContrastCritic`. Batches are (images, labels, indices); mixes cannot be
    contrasted. The embeddings are trained with the student, the critic runs in float32.

    Args:
        network: The student; like the teacher it ends in a linear layer, which reads its features.
        teacher: Gives the features to match.
        train_labels: Class of every training sample, in the order of the batches' indices.
        ce_weight: Weight of the cross-entropy, >= 0.
        crd_weight: Weight of the contrast, >= 0.
        critic: Builds the critic, a `ContrastCritic` with its settings.
        common: Arguments of `Classification`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        teacher: FrozenTeacher,
        train_labels: Int[np.ndarray, " n"],
        ce_weight: float = 1.0,
        crd_weight: float = 0.8,
        critic: Callable[..., ContrastCritic] = ContrastCritic,
        **common: Any,
    ) -> None:
        super().__init__(network, ce_weight=ce_weight, **common)
        check_not_negative("crd_weight", crd_weight)
        self.teacher = teacher
        self.crd_weight = crd_weight
        self.critic = critic(
            train_labels,
            student_features=last_linear(network).in_features,
            teacher_features=last_linear(teacher.module).in_features,
        )
        self._embedded: tuple[Tensor, Tensor, Tensor] | None = None
        # The ranks keep these equal by themselves; DDP would send the memories round before every step
        self._ddp_params_and_buffers_to_ignore = {f"critic.{name}" for name, _ in self.critic.named_buffers()}

    def on_fit_start(self) -> None:
        self.teacher.to(self.device)

    def trained_parameters(self) -> list[nn.Parameter]:
        """The student's, and those of both embeddings."""
        return [*self.network.parameters(), *self.critic.parameters()]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Match the labels of the batch, and the teacher's features of its images against those of other classes."""
        if len(batch) != 3:
            raise ValueError(
                f"expected batches (images, labels, indices), got {len(batch)} fields: set data.with_indices=true"
            )
        images, labels, indices = batch
        if batch_idx == 0:
            self.critic.check_batch(indices, labels)
        logits, features = with_features(self.network, images)
        number = self.trainer.fit_loop.epoch_loop.batch_progress.total.completed
        with torch.autocast(images.device.type, enabled=False):
            student, teacher = self.critic.embed(features.float(), teacher_features(self.teacher, images.float()))
            contrast = self.critic(
                student, teacher, indices, stream=(self.global_rank, number), mean_over_ranks=self._mean_over_ranks
            )
        self._embedded = indices, student.detach(), teacher.detach()
        self.log("train/crd", contrast, batch_size=len(images))
        return self.log_step(self.cross_entropy(logits, labels) + self.crd_weight * contrast, logits, labels)

    def on_after_backward(self) -> None:
        assert self._embedded is not None
        indices, student, teacher = (self._of_all_ranks(values) for values in self._embedded)
        self._embedded = None
        self.critic.update(indices, student, teacher)

    def _of_all_ranks(self, values: Tensor) -> Tensor:
        gathered = self.all_gather(values)
        assert isinstance(gathered, Tensor)
        return gathered.reshape(-1, *values.shape[1:])

    def _mean_over_ranks(self, value: Tensor) -> Tensor:
        return self._of_all_ranks(value[None]).mean(dim=0)
