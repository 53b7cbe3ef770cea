"""What happens to a caught batch: its images are mixed, and the mixes replace or extend it."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from supermix_pl.arguments import check_one_of, check_positive, check_probability, check_transform
from supermix_pl.batch import ITSELF, Key, check_key, extend_fields, get_field, like, set_field
from supermix_pl.engine import Engine, count_mixes
from supermix_pl.mixing import MixedBatch, Mixer
from supermix_pl.mixing.checks import check_labels
from supermix_pl.mixing.natural import NaturalPass, classes_seen, show_batch
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
from supermix_pl.teacher.passes import joined


@dataclass(frozen=True)
class Rewritten:
    """What becomes of a batch: as the student is to see it, the mixes in it, and the teacher's outputs of all its rows.

    Outputs that are not wanted, or that the teacher does not give, are None; `labels` are those of a batch that has no
    place for them.
    """

    batch: Any
    mix: MixedBatch | None
    teacher_logits: Float[Tensor, "rows n"] | None = None
    teacher_features: Float[Tensor, "rows ..."] | None = None
    labels: Targets | None = None


@dataclass(frozen=True, kw_only=True)
class BatchRewriter:
    """Put mixes into batches; the arguments, and their errors, are those of `SuperMixCallback`.

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
    target_key: Key | None
    mixed_transform: Transform | None
    natural_share: float = 0.0
    target_temperature: float = 1.0
    label_natural: bool = False
    every_batch: bool = True

    def __post_init__(self) -> None:
        check_one_of("mode", self.mode, ("extend", "replace"))
        check_one_of("targets", self.targets, get_args(TargetFormat))
        check_positive("mix_ratio", self.mix_ratio)
        if self.mode == "replace" and self.mix_ratio != 1:
            raise ValueError(
                f'expected mix_ratio=1 with mode="replace", where mixes take the place of natural images, got '
                f'{self.mix_ratio:g}; choose mode="extend"'
            )
        check_key("input_key", self.input_key)
        if self.target_key is not None:
            check_key("target_key", self.target_key)
        if self.input_key == self.target_key:
            raise ValueError(f"expected input_key and target_key to differ, got {self.input_key!r} for both")
        if self.mixed_transform is not None:
            check_transform("mixed_transform", self.mixed_transform)
        check_positive("target_temperature", self.target_temperature)
        if self.targets != "teacher_soft" and (self.natural_share or self.target_temperature != 1):
            raise ValueError(
                f'expected targets="teacher_soft" for natural_targets={self.natural_share:g} and target_temperature='
                f'{self.target_temperature:g}, got targets="{self.targets}", which has no room for the teacher\'s '
                "probabilities"
            )

    def rewrite(self, batch: Any, teacher: FrozenTeacher | None, *, stream: tuple[int, ...]) -> Rewritten:
        """Mix the images of a batch, which stays as it is, and return the batch that the student is to see.

        Supervised and labelled by a teacher on the batch's device; `stream` names the batch's stream of chance.
        """
        images, given = self._fields(batch)
        missing, labels, natural = _missing_labels(images, given), given, None
        if missing is not None:
            wanted = self.mode == "extend" or self.mixer.takes_labels
            natural, labels = self._label(teacher, images, given, missing) if wanted else (None, None)
        indices = None if labels is None else _class_indices(labels)
        needs = self.mixer.takes_labels and (teacher is None or self.mixer.needs_teacher)
        if labels is not None and indices is None and needs:
            raise ValueError(
                f"expected labels as ({len(labels)},) integers for {self.mixer}, which takes the classes of the "
                f"sources from them, got {labels.dtype} of shape {tuple(labels.shape)}; give class indices"
            )
        known = None if teacher is None else teacher.num_classes
        if indices is not None and known is not None:
            check_labels(indices, len(images), known)
        looking = teacher if self._labels_natural and self.mode == "extend" else None
        if natural is None and looking is not None and (self.engine.takes_natural_logits or looking.features):
            natural = self._look(looking, images)
        asked = {} if self.mix_ratio == 1 else {"num_mixes": count_mixes(self.mix_ratio, len(images))}
        mix = self.engine.mix(
            self.mixer,
            teacher,
            images,
            indices,
            seed=stream,
            view=self.mixed_transform,
            natural_logits=None if natural is None else natural.logits,
            **asked,
        )
        if indices is not None and known is None:
            check_labels(indices, len(images), mix.soft_targets.shape[1])
        if natural is None and looking is not None:
            natural = NaturalPass.known(mix.natural_logits) or self._look(looking, images)
        mixed = mixed_targets(mix, self.targets, self.target_temperature)
        n, k = mix.soft_targets.shape[1], mix.mix_weights.shape[1]
        if self.mode == "replace":
            if not self.every_batch and labels is not None:
                self._natural_targets(labels, None, n, k)
            targets = mixed if given is None else _in_place_of(given, mixed)
            batch = set_field(batch, self._input_key(batch), like(mix.images, images))
            return self._rewritten(batch, targets, mix)
        if mix.images.shape[1:] != images.shape[1:]:
            raise ValueError(
                f'expected mixed_transform to keep the shape {tuple(images.shape[1:])} of the images in mode="extend", '
                f'got {tuple(mix.images.shape[1:])}; give one that keeps it, or choose mode="replace"'
            )
        assert labels is not None
        targets = concatenate(self._natural_targets(labels, natural, n, k, missing), mixed)
        input_key = self._input_key(batch)
        target_key = input_key if given is None or self.target_key is None else self.target_key
        batch = extend_fields(batch, input_key, target_key, len(images), _rows_behind(mix, len(images)))
        batch = set_field(batch, input_key, like(torch.cat([images, mix.images]), images))
        return self._rewritten(batch, targets, mix, natural)

    def leave_natural(self, batch: Any, teacher: FrozenTeacher | None, num_classes: int | None) -> Rewritten:
        """Leave the images of a batch as they are, and give its labels the format of the other batches of the fit.

        The teacher, if there is one yet, labels the images where that is asked for. Without n labels stay as they are.
        """
        images, labels = self._fields(batch)
        missing, natural = _missing_labels(images, labels), None
        if missing is not None:
            natural, labels = self._label(teacher, images, labels, missing)
        elif self._labels_natural and teacher is not None:
            natural = self._look(teacher, images)
        n = num_classes if natural is None else natural.num_classes
        if n is None and self.targets != "teacher":
            return Rewritten(batch, None)
        assert labels is not None
        indices = _class_indices(labels)
        if indices is not None and n is not None:
            check_labels(indices, len(images), n)
        return self._rewritten(batch, self._natural_targets(labels, natural, n, self.mixer.k, missing), None, natural)

    def images_of(self, batch: Any) -> Tensor:
        """Return the images of a batch."""
        return _tensor(get_field(batch, self._input_key(batch)), "input_key", self.input_key)

    def labels_of(self, batch: Any) -> Any:
        """Return what stands where its labels are to be; None where it has no place for them."""
        return None if self.target_key is None else get_field(batch, self.target_key)

    def lacks_labels(self, batch: Any) -> bool:
        """Return whether images of a batch have no label."""
        return _missing_labels(*self._fields(batch)) is not None

    @property
    def _labels_natural(self) -> bool:
        """Whether the teacher's logits of natural images are wanted."""
        return self.label_natural or self.natural_share > 0

    def _input_key(self, batch: Any) -> Key:
        return ITSELF if self.target_key is None and isinstance(batch, Tensor) else self.input_key

    def _fields(self, batch: Any) -> tuple[Tensor, Tensor | None]:
        images, labels = self.images_of(batch), self.labels_of(batch)
        if labels is None:
            return images, None
        labels = _tensor(labels, "target_key", self.target_key)
        if labels.ndim == 0 or len(labels) != len(images):
            raise ValueError(
                f"expected one label an image, got {len(images)} images and labels of shape {tuple(labels.shape)}; "
                "look at input_key and target_key"
            )
        if self.targets in ("soft", "teacher_soft"):
            check_probabilities(labels)
        return images, labels

    def _rewritten(
        self, batch: Any, labels: Targets, mix: MixedBatch | None, natural: NaturalPass | None = None
    ) -> Rewritten:
        """Put labels where a batch has a place for them, and the teacher's outputs of all rows beside it."""
        seen = [] if natural is None else [(natural.logits, natural.features)]
        seen += [] if mix is None else [(mix.teacher_logits, mix.teacher_features)]
        if not self.label_natural or (natural is None and self.mode == "extend"):
            seen = []
        logits, features = (joined([each[place] for each in seen]) for place in (0, 1))
        if self.target_key is None:
            return Rewritten(batch, mix, logits, features, labels)
        if labels is not get_field(batch, self.target_key):
            batch = set_field(batch, self.target_key, labels)
        return Rewritten(batch, mix, logits, features)

    def _look(self, teacher: FrozenTeacher, images: Tensor) -> NaturalPass:
        return show_batch(teacher, images, self.mixer.chunk_size)

    def _label(
        self, teacher: FrozenTeacher | None, images: Tensor, labels: Tensor | None, missing: Bool[Tensor, " b"]
    ) -> tuple[NaturalPass, Tensor]:
        """Show images to the teacher, and give those without a label its class."""
        if teacher is None:
            raise ValueError(
                f"expected a teacher to label the {int(missing.sum())} of {len(images)} images that have no label, got "
                "none here: give a trained one, which labels from the first batch on, or give labels"
            )
        natural = self._look(teacher, images)
        assert natural.logits is not None
        seen = classes_seen(natural.logits, None)
        unseen = int((missing & (seen < 0)).sum())
        if unseen:
            raise ValueError(
                f"expected finite logits from the teacher for images without a label, got NaN or infinity for {unseen} "
                f"of {len(images)}; leave these out, give them labels, or look at the teacher's dtype"
            )
        labels = seen if labels is None else widened(labels)
        return natural, torch.where(missing, seen.to(labels.dtype), labels)

    def _natural_targets(
        self,
        labels: Tensor,
        natural: NaturalPass | None,
        num_classes: int | None,
        k: int,
        missing: Bool[Tensor, " b"] | None = None,
    ) -> Targets:
        if self.targets == "teacher" and self.mode == "replace" and _is_column(labels):
            return widened(labels)
        given = natural_targets(labels, self.targets, num_classes, k)
        share = self.natural_share
        if self.targets == "teacher_soft" and missing is not None:
            share = torch.where(missing, 1.0, share)[:, None]
        elif share == 0:
            return given
        if natural is None or natural.logits is None:
            return given
        assert isinstance(given, Tensor)  # the callback takes no other format with a share
        return blend(given, natural.logits, share, self.target_temperature)


def _rows_behind(mix: MixedBatch, num_images: int) -> list[int] | None:
    """Return whose other fields each mix gets: its first source's, or those of the next in turn; None for all once."""
    if len(mix) == num_images:
        return None
    first = mix.source_indices[:, 0].tolist()
    return [row if row >= 0 else number % num_images for number, row in enumerate(first)]


def num_classes_of(mixer: Mixer, teacher: FrozenTeacher | None, images: Tensor) -> int | None:
    """Return n: the teacher's, which is shown an image if it has seen none, or else what the mixer was told."""
    if teacher is None:
        return mixer.num_classes
    return teacher.num_classes or show_batch(teacher, images[:1], None).num_classes


def natural_share(natural_targets: object) -> float:
    """Return the teacher's share in the labels of natural images, or refuse what is none."""
    if isinstance(natural_targets, str):
        check_one_of("natural_targets", natural_targets, ("given", "teacher"))
        return float(natural_targets == "teacher")
    check_probability("natural_targets", natural_targets)
    assert isinstance(natural_targets, int | float)
    return float(natural_targets)


def _missing_labels(images: Tensor, labels: Tensor | None) -> Bool[Tensor, " b"] | None:
    """Return which images have no label, all or those of label -1; None if all have one."""
    if labels is None:
        return torch.ones(len(images), dtype=torch.bool, device=images.device)
    if labels.ndim != 1 or not labels.dtype.is_signed or labels.is_floating_point():
        return None
    missing = labels == -1
    return missing if bool(missing.any()) else None


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


def _tensor(value: Any, name: str, key: Key | None) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"expected a tensor behind {name}={key!r}, got {type(value).__name__}; choose another key, or collate the "
            "samples into tensors"
        )
    return value
