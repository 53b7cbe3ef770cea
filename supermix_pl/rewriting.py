"""What happens to a caught batch: its images are mixed, and the mixes replace or extend it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from supermix_pl.batch import Key, extend_fields, get_field, set_field
from supermix_pl.engine import Engine
from supermix_pl.mixing import CutMix, MixedBatch, Mixer, MixUp
from supermix_pl.mixing.assembly import like_batch
from supermix_pl.mixing.inputs import (
    check_images,
    check_labels,
    count_classes,
    float_autograd,
    generator,
    show_natural,
)
from supermix_pl.mixing.targets import TargetFormat, concatenate, mixed_targets, natural_targets
from supermix_pl.solver.chunks import Chunks, show
from supermix_pl.teacher import FrozenTeacher

_MIXES, _VIEWS = 0, 1


@dataclass(frozen=True, kw_only=True)
class BatchRewriter:
    """Put mixes into batches; the arguments are those of `SuperMixCallback`."""

    mixer: Mixer
    engine: Engine
    mode: Literal["extend", "replace"]
    targets: TargetFormat
    input_key: Key
    target_key: Key
    mixed_transform: Callable[[Tensor], Tensor] | None

    def rewrite(self, batch: Any, teacher: FrozenTeacher | None, *, stream: tuple[int, ...]) -> tuple[Any, MixedBatch]:
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
        images = _tensor(batch, self.input_key, "input_key")
        labels = _tensor(batch, self.target_key, "target_key")
        if labels.ndim == 0 or len(labels) != len(images):
            raise ValueError(
                f"expected one label an image, got {len(images)} images and labels of shape {tuple(labels.shape)}; "
                "look at input_key and target_key"
            )
        indices = _class_indices(labels)
        blindly = teacher is None and isinstance(self.mixer, MixUp | CutMix)
        if indices is None and (blindly or getattr(self.mixer, "classes", "teacher") == "labels"):
            raise ValueError(
                f"expected labels as ({len(labels)},) integers for {self.mixer}, which takes the classes of the "
                f"sources from them, got {labels.dtype} of shape {tuple(labels.shape)}; give class indices"
            )
        known = None if teacher is None else teacher.num_classes
        if indices is not None and known is not None:
            check_labels(indices, len(images), known)
        mix = self.engine.mix(self.mixer, teacher, images, indices, seed=(_MIXES, *stream))
        if indices is not None and known is None:
            check_labels(indices, len(images), mix.soft_targets.shape[1])
        if self.mixed_transform is not None:
            labelling = teacher if self.engine.relabels else None
            chunk_size = getattr(self.mixer, "chunk_size", None)
            mix = view(mix, self.mixed_transform, labelling, seed=(_VIEWS, *stream), chunk_size=chunk_size)
        mixed = mixed_targets(mix, self.targets)
        if self.mode == "replace":
            if isinstance(mixed, Tensor) and not mixed.is_floating_point() and indices is not None:
                mixed = mixed.to(labels.dtype)
            values = mix.images, mixed
        else:
            natural = natural_targets(labels, self.targets, mix.soft_targets.shape[1], mix.mix_weights.shape[1])
            if mix.images.shape[1:] != images.shape[1:]:
                raise ValueError(
                    f"expected mixed_transform to keep the shape {tuple(images.shape[1:])} of the "
                    'images in mode="extend", '
                    f"got {tuple(mix.images.shape[1:])}"
                )
            values = torch.cat([images, mix.images]), concatenate(natural, mixed)
            batch = extend_fields(batch, self.input_key, self.target_key, len(images))
        return set_field(set_field(batch, self.input_key, values[0]), self.target_key, values[1]), mix


def view(
    mix: MixedBatch,
    transform: Callable[[Tensor], Tensor],
    teacher: FrozenTeacher | None,
    *,
    seed: tuple[int, ...],
    chunk_size: int | None = None,
) -> MixedBatch:
    """Transform the mixes, and ask the teacher, if one is given, for its logits of the very view that the student gets.

    Chance inside the transform comes from the seed; the global generators are left as they were.
    """
    with isolate_rng():
        torch.manual_seed(int(generator(seed).integers(2**63)))
        images = transform(mix.images)
    if not isinstance(images, Tensor) or images.ndim != 4 or len(images) != len(mix):
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"expected mixed_transform to give {len(mix)} images (b, c, h, w), got {got}")
    images = like_batch(images.as_subclass(Tensor), mix.images)
    if teacher is None or mix.teacher_logits is None:
        return replace(mix, images=images)
    with float_autograd(images.device):
        logits = show(teacher, images.to(torch.promote_types(images.dtype, torch.float32)), chunk_size)
        finite = logits.isfinite().all(dim=1, keepdim=True)
    return replace(
        mix,
        images=images,
        teacher_logits=torch.where(finite, logits, mix.teacher_logits),
        teacher_forwards=mix.teacher_forwards + len(images),
    )


def natural_hits(
    mix: MixedBatch,
    teacher: FrozenTeacher,
    images: Float[Tensor, "r c h w"],
    labels: Tensor,
    *,
    chunk_size: int | None = None,
) -> Int[Tensor, ""] | None:
    """Count on how many natural images the teacher agrees with the label, or the likeliest class of a row.

    Args:
        mix: Of the batch; the teacher looks at the images where the engine has not shown them to it.
        teacher: Of the mixes.
        images: The first r of the natural batch.
        labels: (r,) class indices or (r, n) probabilities; of others None comes back.
        chunk_size: Images that the teacher sees at once; None for all.
    """
    by_row = labels.ndim == 2 and labels.shape[1] == mix.soft_targets.shape[1]
    if not by_row and (labels.ndim != 1 or labels.is_floating_point()):
        return None
    logits = mix.natural_logits
    if logits is None:
        with float_autograd(images.device):
            logits = show_natural(teacher, check_images(images), chunks=Chunks(teacher, chunk_size)).logits
    assert logits is not None
    logits = logits[: len(labels)]
    return (logits.argmax(dim=1) == (labels.argmax(dim=1) if by_row else labels)).sum()


def num_classes_of(mixer: Mixer, teacher: FrozenTeacher | None, batch: Any, input_key: Key) -> int | None:
    """Give n: the teacher's, which is shown an image if it has seen none, or else what the mixer was told."""
    if teacher is None:
        return getattr(mixer, "num_classes", None)
    images = check_images(_tensor(batch, input_key, "input_key"))
    with float_autograd(images.device):
        return count_classes(teacher, images).num_classes


def _class_indices(labels: Tensor) -> Int[Tensor, " b"] | None:
    """Give integer labels in the dtype of indices; None for any other labels."""
    if labels.dtype == torch.bool:
        raise ValueError("expected labels as class indices or rows of probabilities, got torch.bool; convert them")
    return labels.long() if labels.ndim == 1 and not labels.is_floating_point() else None


def _tensor(batch: Any, key: Key, name: str) -> Tensor:
    value = get_field(batch, key)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"expected a tensor behind {name}={key!r}, got {type(value).__name__}; choose another key, or collate the "
            "samples into tensors"
        )
    return value
