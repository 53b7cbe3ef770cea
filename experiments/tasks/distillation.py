"""Training a student on labels and on its teacher's logits."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.tasks.classification import Batch, Classification
from supermix_pl.losses import distillation_loss


class Distillation(Classification):
    """Cross-entropy on the batch and temperature-softened KL to the teacher.

    loss = ce_weight (CE natural + CE mixed) + kd_weight T^2 KL. The KL is on the natural images, as in the authors'
    code; where mixes replace them, it is on the mixes. The defaults are the plain KD rows' of the paper; its rows with
    mixes have ce_weight=1.8 and kd_weight=0.2.

    Args:
        network: The student.
        teacher: Gives the logits to match.
        ce_weight: Weight of the cross-entropy, >= 0.
        kd_weight: Weight of the divergence, >= 0.
        temperature: T, > 0.
        common: Arguments of `Classification`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        teacher: FrozenTeacher,
        ce_weight: float = 0.1,
        kd_weight: float = 0.9,
        temperature: float = 4.0,
        **common: Any,
    ) -> None:
        super().__init__(network, ce_weight=ce_weight, **common)
        if kd_weight < 0 or temperature <= 0:
            raise ValueError(f"expected kd_weight >= 0 and temperature > 0, got {kd_weight} and {temperature}")
        self.teacher = teacher
        self.kd_weight = kd_weight
        self.temperature = temperature

    def on_fit_start(self) -> None:
        """Bring the teacher beside the student."""
        self.teacher.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Match the labels of the batch and the teacher's logits of its natural images."""
        images, targets, *_ = batch
        logits = self.classify(images)
        teacher_logits = self._to_match(images)
        divergence = distillation_loss(logits[: len(teacher_logits)], teacher_logits, temperature=self.temperature)
        return self.log_step(self.cross_entropy(logits, targets) + self.kd_weight * divergence, logits, targets)

    def _to_match(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "m n"]:
        """Give the teacher's logits of the natural images, which stand first; of the mixes where they are alone.

        Those that it gave when the batch was mixed are taken up.
        """
        mix = self.mixing.mix if self.mixing is not None and self.mixing.teacher is self.teacher else None
        if mix is not None and len(mix) == len(images) and mix.teacher_logits is not None:
            return mix.teacher_logits
        if mix is not None and mix.natural_logits is not None:
            return mix.natural_logits
        with torch.no_grad():
            return self.teacher(images[: self.num_natural(len(images)) or None].float())
