"""What happens to a caught batch: its images are mixed, and the mixes replace or extend it."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.batch import Key, extend_fields, get_field, like, set_field
from supermix_pl.engine import Engine, count_mixes
from supermix_pl.mixing import MixedBatch, Mixer
from supermix_pl.mixing.checks import check_images, check_labels
from supermix_pl.mixing.natural import count_classes, float_autograd, show_natural
from supermix_pl.mixing.targets import (
    TargetFormat,
    Targets,
    blend,
    check_probabilities,
    concatenate,
    mixed_targets,
    natural_targets,
    widened,
)
from supermix_pl.mixing.views import Transform
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.teacher.passes import Chunks


@dataclass(frozen=True)
class Rewritten:
    """What becomes of a batch.

    Attributes:
        batch: As the student is to see it.
        mix: The mixes in it; None if there are none.
        teacher_logits: The teacher's, one row for each row that the student sees; None where they are not wanted.
    """

    batch: Any
    mix: MixedBatch | None
    teacher_logits: Float[Tensor, "rows n"] | None


@dataclass(frozen=True, kw_only=True)
class BatchRewriter:
    """Put mixes into batches; the arguments are those of `SuperMixCallback`.

    Args:
        natural_share: Share of the teacher's probabilities in the labels of natural images, in [0, 1].
        every_batch: Whether every batch of the fit is mixed. If not, labels must be such that a natural batch has the
            format too.
    """

    mixer: Mixer
    engine: Engine
    mode: Literal["extend", "replace"]
    mix_ratio: float = 1.0
    targets: TargetFormat
    input_key: Key
    target_key: Key
    mixed_transform: Transform | None
    natural_share: float = 0.0
    target_temperature: float = 1.0
    label_natural: bool = False
    every_batch: bool = True

    def rewrite(self, batch: Any, teacher: FrozenTeacher | None, *, stream: tuple[int, ...]) -> Rewritten:
        """Mix the images of a batch and give the batch that the student is to see.

        Args:
            batch: The user's batch, on the teacher's device; it stays as it is.
            teacher: Supervises and labels the mixes.
            stream: Names the batch's stream of chance.

        Raises:
            KeyError: If the batch lacks a key.
            TypeError: If there are no tensors behind the keys.
            ValueError: If images, labels and teacher do not fit together.
        """
        images, labels = self._fields(batch)
        indices = _class_indices(labels)
        if indices is None and self.mixer.takes_labels and (teacher is None or self.mixer.needs_teacher):
            raise ValueError(
                f"expected labels as ({len(labels)},) integers for {self.mixer}, which takes the classes of the "
                f"sources from them, got {labels.dtype} of shape {tuple(labels.shape)}; give class indices"
            )
        known = None if teacher is None else teacher.num_classes
        if indices is not None and known is not None:
            check_labels(indices, len(images), known)
        natural_logits = None
        looking = teacher if self._labels_natural and self._keeps_natural else None
        if looking is not None and self.engine.takes_natural_logits:
            natural_logits = self._look(looking, images)
        wanted = {} if self.mix_ratio == 1 else {"num_mixes": count_mixes(self.mix_ratio, len(images))}
        mix = self.engine.mix(
            self.mixer,
            teacher,
            images,
            indices,
            seed=stream,
            view=self.mixed_transform,
            natural_logits=natural_logits,
            **wanted,
        )
        if indices is not None and known is None:
            check_labels(indices, len(images), mix.soft_targets.shape[1])
        if looking is not None and natural_logits is None:
            natural_logits = mix.natural_logits if mix.natural_logits is not None else self._look(looking, images)
        mixed = mixed_targets(mix, self.targets, self.target_temperature)
        n, k = mix.soft_targets.shape[1], mix.mix_weights.shape[1]
        if self.mode == "replace":
            if not self.every_batch:
                self._natural_targets(labels, None, n, k)
            logits = mix.teacher_logits if self.label_natural else None
            return Rewritten(self._with(batch, like(mix.images, images), _in_place_of(labels, mixed)), mix, logits)
        if mix.images.shape[1:] != images.shape[1:]:
            raise ValueError(
                f"expected mixed_transform to keep the shape {tuple(images.shape[1:])} of the "
                'images in mode="extend", '
                f"got {tuple(mix.images.shape[1:])}"
            )
        natural = self._natural_targets(labels, natural_logits, n, k)
        batch = extend_fields(batch, self.input_key, self.target_key, len(images), _rows_behind(mix, len(images)))
        both = like(torch.cat([images, mix.images]), images)
        batch = self._with(batch, both, concatenate(natural, mixed))
        return Rewritten(batch, mix, self._all_logits(natural_logits, mix.teacher_logits))

    def leave_natural(self, batch: Any, teacher: FrozenTeacher | None, num_classes: int | None) -> Rewritten:
        """Leave the images of a batch as they are, and give its labels the format of the other batches of the fit.

        Args:
            batch: The user's.
            teacher: Labels the images, where that is asked for; None if there is none yet.
            num_classes: n; None if it is unknown, so that the labels stay as they are.
        """
        wanted = self._labels_natural and teacher is not None
        if num_classes is None and not wanted and self.targets != "teacher":
            return Rewritten(batch, None, None)
        images, labels = self._fields(batch)
        if self.targets == "teacher" and not wanted:
            wide = self._natural_targets(labels, None, num_classes, self.mixer.k)
            return Rewritten(batch if wide is labels else set_field(batch, self.target_key, wide), None, None)
        logits = self._look(teacher, images) if wanted and teacher is not None else None
        n = logits.shape[1] if logits is not None else num_classes
        indices = _class_indices(labels)
        if indices is not None and n is not None:
            check_labels(indices, len(images), n)
        targets = self._natural_targets(labels, logits, n, self.mixer.k)
        logits = logits if self.label_natural else None
        return Rewritten(set_field(batch, self.target_key, targets), None, logits)

    @property
    def _labels_natural(self) -> bool:
        """Whether the teacher's logits of natural images are wanted."""
        return self.label_natural or self.natural_share > 0

    @property
    def _keeps_natural(self) -> bool:
        return self.mode == "extend"

    def _fields(self, batch: Any) -> tuple[Tensor, Tensor]:
        images = tensor_at(batch, self.input_key, "input_key")
        labels = tensor_at(batch, self.target_key, "target_key")
        if labels.ndim == 0 or len(labels) != len(images):
            raise ValueError(
                f"expected one label an image, got {len(images)} images and labels of shape {tuple(labels.shape)}; "
                "look at input_key and target_key"
            )
        if self.targets in ("soft", "teacher_soft"):
            check_probabilities(labels)
        return images, labels

    def _with(self, batch: Any, images: Tensor, targets: Targets) -> Any:
        return set_field(set_field(batch, self.input_key, images), self.target_key, targets)

    def _look(self, teacher: FrozenTeacher, images: Tensor) -> Float[Tensor, "b n"]:
        with float_autograd(images.device):
            logits = show_natural(teacher, check_images(images), chunks=Chunks(teacher, self.mixer.chunk_size)).logits
        assert logits is not None
        return logits

    def _natural_targets(
        self, labels: Tensor, logits: Float[Tensor, "b n"] | None, num_classes: int | None, k: int
    ) -> Targets:
        if self.targets == "teacher" and self.mode == "replace" and _is_column(labels):
            return widened(labels)
        given = natural_targets(labels, self.targets, num_classes, k)
        if logits is None or self.natural_share == 0:
            return given
        assert isinstance(given, Tensor)  # the callback takes no other format with a share
        return blend(given, logits, self.natural_share, self.target_temperature)

    def _all_logits(
        self, natural: Float[Tensor, "b n"] | None, mixed: Float[Tensor, "m n"] | None
    ) -> Float[Tensor, "rows n"] | None:
        if not self.label_natural or natural is None or mixed is None:
            return None
        return torch.cat([natural, mixed.to(natural.dtype)])


def _rows_behind(mix: MixedBatch, num_images: int) -> list[int] | None:
    """Return whose other fields each mix gets: its first source's, or those of the next in turn; None for all once."""
    if len(mix) == num_images:
        return None
    first = mix.source_indices[:, 0].tolist()
    return [row if row >= 0 else number % num_images for number, row in enumerate(first)]


def num_classes_of(mixer: Mixer, teacher: FrozenTeacher | None, batch: Any, input_key: Key) -> int | None:
    """Return n: the teacher's, which is shown an image if it has seen none, or else what the mixer was told."""
    if teacher is None:
        return mixer.num_classes
    images = check_images(tensor_at(batch, input_key, "input_key"))
    with float_autograd(images.device):
        return count_classes(teacher, images).num_classes


def _is_column(labels: Tensor) -> bool:
    """Return whether labels are one class index an image, with any number of dimensions of size 1."""
    return not labels.is_floating_point() and labels.numel() == len(labels)


def _in_place_of(labels: Tensor, mixed: Targets) -> Targets:
    """Return the labels of mixes in the dtype and the dimensions that the given ones would have in their format."""
    if isinstance(mixed, tuple):
        return mixed
    if mixed.is_floating_point():
        return mixed.to(labels.dtype) if labels.is_floating_point() else mixed
    return mixed.to(widened(labels).dtype).view_as(labels) if _is_column(labels) else mixed


def _class_indices(labels: Tensor) -> Int[Tensor, " b"] | None:
    """Return integer labels in the dtype of indices; None for any other labels."""
    if labels.dtype == torch.bool:
        raise ValueError("expected labels as class indices or rows of probabilities, got torch.bool; convert them")
    return labels.long() if labels.ndim == 1 and not labels.is_floating_point() else None


def tensor_at(batch: Any, key: Key, name: str) -> Tensor:
    """Read a tensor from a batch."""
    value = get_field(batch, key)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"expected a tensor behind {name}={key!r}, got {type(value).__name__}; choose another key, or collate the "
            "samples into tensors"
        )
    return value
