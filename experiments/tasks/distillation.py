"""Training a student on labels and on its teacher's logits."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from supermix_pl import FrozenTeacher
from supermix_pl.arguments import check_not_negative, check_one_of, check_positive
from supermix_pl.experiments.tasks.classification import Batch, Classification, rows_of
from supermix_pl.losses import dist_loss, distillation_loss, dkd_loss, similarity_loss, soft_cross_entropy
from supermix_pl.metrics import hard_targets
from supermix_pl.teacher.outputs import Reader, check_part

_ROWS = ("natural", "all")


_LOSSES: dict[str, Callable[[Tensor, Tensor, Any, float], Tensor]] = {
    "kd": lambda student, teacher, _, t: distillation_loss(student, teacher, temperature=t),
    "dkd": lambda student, teacher, targets, t: dkd_loss(student, teacher, hard_targets(targets), temperature=t),
    "dist": lambda student, teacher, _, t: dist_loss(student, teacher, temperature=t),
}


class Distillation(Classification):
    """Cross-entropy on the batch and temperature-softened KL to the teacher.

    loss = ce_weight (CE natural + CE mixed) + kd_weight T^2 KL natural, as in the authors' code; the defaults are the
    plain KD rows' of the paper; its rows with mixes have ce_weight=1.8 and kd_weight=0.2. With matched="all" the last
    term is kd_weight T^2 (KL natural + KL mixed), with classified="natural" the first one is ce_weight CE natural, and
    with average="rows" both are means over their rows. Where mixes replace the natural images, both are on the mixes.

    loss="dkd" or "dist" puts `dkd_loss` or `dist_loss` in the place of T^2 KL; DKD's target class is the label's of
    largest weight. With features, feature_weight `similarity_loss` of all rows that are matched is added, to the
    teacher's `features`.
    Deviation: there is no warm-up of the weights.

    The teacher's outputs are always of exactly the images that the student sees: those that came with the batch, where
    the callback labels all rows (`label_natural=True`) with this teacher, else those of a pass of its own.

    Args:
        network: The student.
        teacher: Gives the logits to match.
        ce_weight: Weight of the cross-entropy, >= 0.
        kd_weight: Weight of the divergence, >= 0.
        temperature: T, > 0.
        loss: How the student matches the teacher's logits: "kd", "dkd" or "dist".
        features: Name of the part of the student whose similarities between images match those of the teacher's
            features; None if both have none.
        feature_weight: Weight of their difference, >= 0.
        matched: Where the student matches the teacher: on the "natural" images of an extended batch, or on
            "all". Deviation: the latter is not in the paper, whose mixes carry no more than the teacher's class.
        classified: Where it learns from labels: on "all" rows, or on the "natural" images alone, likewise.
        common: Arguments of `Classification`.

    Raises:
        ValueError: If an argument is out of its range, or one side alone has features.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        teacher: FrozenTeacher,
        ce_weight: float = 0.1,
        kd_weight: float = 0.9,
        temperature: float = 4.0,
        loss: str = "kd",
        features: str | None = None,
        feature_weight: float = 3000.0,
        matched: str = "natural",
        classified: str = "all",
        **common: Any,
    ) -> None:
        super().__init__(network, ce_weight=ce_weight, **common)
        check_not_negative("kd_weight", kd_weight)
        check_not_negative("feature_weight", feature_weight)
        check_positive("temperature", temperature)
        check_one_of("loss", loss, tuple(_LOSSES))
        check_one_of("matched", matched, _ROWS)
        check_one_of("classified", classified, _ROWS)
        check_both_have_features(features, teacher.features)
        if features is not None:
            check_part("features", network, features)
        self.teacher = teacher
        self.feature_weight = feature_weight
        self._features: list[Tensor] = []  # of the training step at hand
        self._reader = None if features is None else Reader(network, features, detached=False)
        self.kd_weight = kd_weight
        self.temperature = temperature
        self.loss = loss
        self.matched = matched
        self.classified = classified

    def on_fit_start(self) -> None:
        self.teacher.to(self.device)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Return the network's logits; while training, keep the features that are to be matched."""
        if self._reader is None or not self.training:
            return super().forward(images)
        logits, features = self._reader(images)
        assert features is not None
        self._features.append(features)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Match the labels of the batch and what the teacher gives for its images."""
        images, targets = self.labelled(batch)
        self._features.clear()
        teacher_logits, teacher_features = self.taught(images)  # first: a compiled teacher begins new CUDA graphs
        logits, count, matched = self.classify(images), len(images), len(teacher_logits)
        natural = self._count(self.classified, count)
        if natural < count:
            loss = self.ce_weight * soft_cross_entropy(logits[:natural], rows_of(targets, slice(natural)))
        else:
            loss = self.cross_entropy(logits, targets)

        def divergence_of(rows: slice) -> Tensor:
            return _LOSSES[self.loss](logits[rows], teacher_logits[rows], rows_of(targets, rows), self.temperature)

        divergence = self.sum_over_kinds(divergence_of, count) if matched == count else divergence_of(slice(matched))
        loss = loss + self.kd_weight * divergence
        if teacher_features is not None:
            features, self._features = torch.cat(self._features), []
            loss = loss + self.feature_weight * similarity_loss(features[:matched], teacher_features)
        return self.log_step(loss, logits, targets)

    def taught(self, images: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "m n"], Float[Tensor, "m ..."] | None]:
        """Return what is to be matched: of the natural images of a training batch, which stand first, or of all."""
        count = self._count(self.matched, len(images))
        mixing = self.mixing
        if mixing is not None and mixing.teacher is self.teacher and mixing.teacher_logits is not None:
            features = mixing.teacher_features
            return mixing.teacher_logits[:count], None if features is None else features[:count]
        with torch.no_grad():
            return self.teacher.look(images[:count].float())

    def _count(self, rows: str, count: int) -> int:
        """Count the first rows of a batch of so many: its natural images, or all; of mixes that are alone all."""
        return count if rows == "all" else self.num_natural(count) or count


def check_both_have_features(student: str | None, teacher: str | None) -> None:
    """Refuse features of one side alone.

    Raises:
        ValueError: If there are such.
    """
    if (student is None) != (teacher is None):
        raise ValueError(
            f"expected features of both student and teacher, or of none, got task.features={student} and "
            f"teacher.features={teacher}: name a part of each, with task=distillation and one teacher"
        )
