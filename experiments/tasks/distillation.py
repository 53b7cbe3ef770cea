"""Training a student on labels and on its teacher's logits."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl import FrozenTeacher
from supermix_pl.arguments import check_not_negative, check_one_of, check_positive
from supermix_pl.experiments.tasks.classification import Batch, Classification
from supermix_pl.losses import distillation_loss

_MATCHED = ("natural", "all")


class Distillation(Classification):
    """Cross-entropy on the batch and temperature-softened KL to the teacher.

    loss = ce_weight (CE natural + CE mixed) + kd_weight T^2 KL natural, as in the authors' code; the defaults are the
    plain KD rows' of the paper; its rows with mixes have ce_weight=1.8 and kd_weight=0.2. With matched="all" the last
    term is kd_weight T^2 (KL natural + KL mixed). Where mixes replace the natural images, it is on the mixes.

    Args:
        network: The student.
        teacher: Gives the logits to match.
        ce_weight: Weight of the cross-entropy, >= 0.
        kd_weight: Weight of the divergence, >= 0.
        temperature: T, > 0.
        matched: Where the student matches the teacher's logits: on the "natural" images of an extended batch, or on
            "all". Deviation: the latter is not in the paper, whose mixes carry no more than the teacher's class.
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
        matched: str = "natural",
        **common: Any,
    ) -> None:
        super().__init__(network, ce_weight=ce_weight, **common)
        check_not_negative("kd_weight", kd_weight)
        check_positive("temperature", temperature)
        check_one_of("matched", matched, _MATCHED)
        self.teacher = teacher
        self.kd_weight = kd_weight
        self.temperature = temperature
        self.matched = matched

    def on_fit_start(self) -> None:
        """Bring the teacher beside the student."""
        self.teacher.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Match the labels of the batch and the teacher's logits of its images."""
        images, targets, *_ = batch
        logits = self.classify(images)
        teacher_logits = self._to_match(images)
        divergence = distillation_loss(logits[: len(teacher_logits)], teacher_logits, temperature=self.temperature)
        if len(teacher_logits) == len(logits):
            divergence = self.num_kinds(len(logits)) * divergence
        return self.log_step(self.cross_entropy(logits, targets) + self.kd_weight * divergence, logits, targets)

    def _to_match(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "m n"]:
        """Give the teacher's logits of the natural images, which stand first, or of all; of mixes that are alone.

        Those that it gave when the batch was mixed are taken up, but for mixes beside natural images: a stream has cut
        and flipped them since.
        """
        mix = self.mixing.mix if self.mixing is not None and self.mixing.teacher is self.teacher else None
        if mix is not None and len(mix) == len(images) and mix.teacher_logits is not None:
            return mix.teacher_logits
        natural = self.num_natural(len(images)) or len(images)
        parts, first, last = [], 0, len(images) if self.matched == "all" else natural
        if mix is not None and mix.natural_logits is not None:
            parts, first = [mix.natural_logits], natural
        if first < last:
            with torch.no_grad():
                parts.append(self.teacher(images[first:last].float()))
        return torch.cat(parts)
