"""Training a student on labels and on its teacher's logits."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from supermix_pl import FrozenTeacher, SuperMixCallback
from supermix_pl.experiments.tasks.classification import Batch, Classification
from supermix_pl.losses import distillation_loss, soft_cross_entropy


class Distillation(Classification):
    """Cross-entropy on the batch and temperature-softened KL to the teacher.

    loss = ce_weight (CE natural + CE mixed) + kd_weight T^2 KL. The KL is on the natural images, as in the authors'
    code; where mixes replace them, it is on the mixes. The defaults are the plain KD rows' of the paper; its rows with
    mixes have ce_weight=1.8 and kd_weight=0.2.

    Args:
        network: The student.
        num_classes: n.
        optimizer: Builds the optimiser from the parameters.
        scheduler: Builds a schedule from the optimiser and the number of its steps.
        teacher: Gives the logits to match.
        mixing: The callback that mixes the batches; None without mixing.
        ce_weight: Weight of the cross-entropy, >= 0.
        kd_weight: Weight of the divergence, >= 0.
        temperature: T, > 0.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
        teacher: FrozenTeacher,
        mixing: SuperMixCallback | None = None,
        ce_weight: float = 0.1,
        kd_weight: float = 0.9,
        temperature: float = 4.0,
    ) -> None:
        super().__init__(network, num_classes=num_classes, optimizer=optimizer, scheduler=scheduler)
        if min(ce_weight, kd_weight) < 0 or temperature <= 0:
            raise ValueError(
                f"expected ce_weight >= 0, kd_weight >= 0 and temperature > 0, got {ce_weight}, {kd_weight} and "
                f"{temperature}"
            )
        self.teacher = teacher
        self.mixing = mixing
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight
        self.temperature = temperature

    def on_fit_start(self) -> None:
        """Bring the teacher beside the student."""
        self.teacher.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Match the labels of the batch and the teacher's logits of its natural images."""
        images, targets = batch
        logits = self(images)
        natural, teacher_logits = self._to_match(images)
        cross_entropy = soft_cross_entropy(logits, targets)
        if natural < len(images):
            cross_entropy = 2 * cross_entropy
        divergence = distillation_loss(logits[: len(teacher_logits)], teacher_logits, temperature=self.temperature)
        return self.log_step(self.ce_weight * cross_entropy + self.kd_weight * divergence, logits, targets)

    def _to_match(self, images: Float[Tensor, "b c h w"]) -> tuple[int, Float[Tensor, "m n"]]:
        """Count the natural images, which stand first, and give the teacher's logits of the rows to match."""
        mix = None if self.mixing is None else self.mixing.mix
        if mix is not None and len(mix) == len(images) and mix.teacher_logits is not None:
            return len(images), mix.teacher_logits
        natural = len(images) - (0 if mix is None else len(mix))
        if mix is not None and mix.natural_logits is not None:
            return natural, mix.natural_logits
        with torch.no_grad():
            return natural, self.teacher(images[:natural].float())
