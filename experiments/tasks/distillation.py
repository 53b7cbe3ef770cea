"""Training a student on labels and on its teacher's logits."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl import FrozenTeacher
from supermix_pl.arguments import check_not_negative, check_one_of, check_positive
from supermix_pl.experiments.tasks.classification import Batch, Classification
from supermix_pl.losses import distillation_loss, soft_cross_entropy

_ROWS = ("natural", "all")


class Distillation(Classification):
    """Cross-entropy on the batch and temperature-softened KL to the teacher.

    loss = ce_weight (CE natural + CE mixed) + kd_weight T^2 KL natural, as in the authors' code; the defaults are the
    plain KD rows' of the paper; its rows with mixes have ce_weight=1.8 and kd_weight=0.2. With matched="all" the last
    term is kd_weight T^2 (KL natural + KL mixed), with classified="natural" the first one is ce_weight CE natural, and
    with average="rows" both are means over their rows. Where mixes replace the natural images, both are on the mixes.

    The teacher's logits are always of exactly the images that the student sees: those that came with the batch, where
    the callback labels all rows (`label_natural=True`) with this teacher, else those of a pass of its own.

    Args:
        network: The student.
        teacher: Gives the logits to match.
        ce_weight: Weight of the cross-entropy, >= 0.
        kd_weight: Weight of the divergence, >= 0.
        temperature: T, > 0.
        matched: Where the student matches the teacher's logits: on the "natural" images of an extended batch, or on
            "all". Deviation: the latter is not in the paper, whose mixes carry no more than the teacher's class.
        classified: Where it learns from labels: on "all" rows, or on the "natural" images alone, likewise.
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
        classified: str = "all",
        **common: Any,
    ) -> None:
        super().__init__(network, ce_weight=ce_weight, **common)
        check_not_negative("kd_weight", kd_weight)
        check_positive("temperature", temperature)
        check_one_of("matched", matched, _ROWS)
        check_one_of("classified", classified, _ROWS)
        self.teacher = teacher
        self.kd_weight = kd_weight
        self.temperature = temperature
        self.matched = matched
        self.classified = classified

    def on_fit_start(self) -> None:
        """Bring the teacher beside the student."""
        self.teacher.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Match the labels of the batch and the teacher's logits of its images."""
        images, targets, *_ = batch
        logits = self.classify(images)
        count = self._count(self.classified, len(images))
        if count < len(images):
            loss = self.ce_weight * soft_cross_entropy(logits[:count], _first(targets, count))
        else:
            loss = self.cross_entropy(logits, targets)
        teacher_logits = self.teacher_logits(images)
        divergence = distillation_loss(logits[: len(teacher_logits)], teacher_logits, temperature=self.temperature)
        if len(teacher_logits) == len(logits):
            divergence = self.sum_of_means(divergence, len(logits))
        return self.log_step(loss + self.kd_weight * divergence, logits, targets)

    def teacher_logits(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "m n"]:
        """Return the logits to match: of the natural images of a training batch, which stand first, or of all."""
        count = self._count(self.matched, len(images))
        if self.mixing is not None and self.mixing.teacher is self.teacher:
            known = self.mixing.teacher_logits
            if known is not None:
                return known[:count]
        with torch.no_grad():
            return self.teacher(images[:count].float())

    def _count(self, rows: str, count: int) -> int:
        """Count the first rows of a batch of so many: its natural images, or all; of mixes that are alone all."""
        return count if rows == "all" else self.num_natural(count) or count


def _first(targets: Any, count: int) -> Any:
    """Return the labels of the first rows, in any format."""
    return targets[:count] if isinstance(targets, Tensor) else tuple(part[:count] for part in targets)
