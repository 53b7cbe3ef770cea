"""What the student sees of mixes: a view of each, with the teacher's logits of exactly that view."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from supermix_pl.mixing.checks import generator, numbers
from supermix_pl.mixing.mixer import MixedBatch, Seed
from supermix_pl.mixing.natural import float_autograd
from supermix_pl.mixing.views import Transform, Viewer
from supermix_pl.solver import Outcome
from supermix_pl.solver.criterion import class_membership, margin
from supermix_pl.solver.rows import to_device
from supermix_pl.teacher.frozen import FrozenTeacher, as_teacher
from supermix_pl.teacher.passes import show

_LEAST_LOGIT = -1e4
_SHOWN = 0x5EE  # names the chance of views that are shown


def present(
    mix: MixedBatch,
    teacher: FrozenTeacher | nn.Module | None,
    images: Float[Tensor, "_ c _ _"],
    view: Transform | None,
    *,
    seed: Seed,
    exact: bool,
    keys: Int[Tensor, " b"] | None = None,
    look: int = 0,
    chunk_size: int | None = None,
) -> MixedBatch:
    """Show mixes under a view, and ask the teacher for its logits of exactly what is shown.

    Args:
        mix: The mixes, in any precision.
        teacher: None if the mixes have none.
        images: The natural batch. The mixes get its dtype and memory format.
        view: The view under which the student sees them; None for the mixes as they are.
        seed: Random seed of the batch.
        exact: Whether the logits that the mixes have, if any, are of exactly their pixels.
        keys: Random seed of each set, int64; drawn from `seed` if None.
        look: How many times the sets have been shown before.
        chunk_size: Images that the teacher sees at once; None for all.

    Returns:
        The mixes as the student sees them. If the teacher's logits of a view are not finite, they are replaced by those
        of Eq. 2.
    """
    pixels = mix.images.to(torch.promote_types(mix.images.dtype, torch.float32))
    with float_autograd(pixels.device), torch.no_grad():
        if keys is None:
            drawn = generator([*numbers(seed), _SHOWN]).integers(2**63 - 1, size=len(mix))
            keys = to_device(drawn, pixels.device)
        viewer = Viewer(view, (*numbers(seed), _SHOWN), images.dtype)
        shown = viewer(pixels, keys, torch.full_like(keys, look))
        known = exact and view is None and images.dtype == pixels.dtype
        mix = replace(mix, images=like_batch(shown, images))
        teacher = None if teacher is None else as_teacher(teacher)
        if teacher is None or (known and mix.teacher_logits is not None and teacher.features is None):
            return mix
        return label(mix, *show(teacher, shown, chunk_size), viewed=view is not None, forwards=len(shown))


def label(
    mix: MixedBatch,
    logits: Float[Tensor, "b n"],
    features: Float[Tensor, "b ..."] | None = None,
    *,
    viewed: bool,
    forwards: int,
) -> MixedBatch:
    """Label mixes with the teacher's logits, and features, of exactly what is shown.

    `viewed` are views that the masks were not solved on; `forwards` are the passes that only labelled.
    """
    finite = logits.isfinite().all(dim=1)
    return replace(
        mix,
        teacher_logits=torch.where(finite[:, None], logits, log_targets(mix.soft_targets).to(logits.dtype)),
        teacher_features=features,
        outcomes=mix.outcomes.masked_fill(~finite, int(Outcome.NON_FINITE)),
        holds=finite & holds(mix, logits) if viewed else None,
        teacher_forwards=mix.teacher_forwards + forwards,
        label_forwards=mix.label_forwards + forwards,
    )


def holds(mix: MixedBatch, logits: Float[Tensor, "b n"]) -> Bool[Tensor, " b"]:
    """Return whether the top classes of logits, where these are finite, are the classes of the sources."""
    return margin(logits, class_membership(mix.source_classes, logits.shape[1])) > 0


def log_targets(soft_targets: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Return finite logits whose softmax is soft targets."""
    return soft_targets.log().clamp_min(_LEAST_LOGIT)


def like_batch(mixes: Float[Tensor, "b c h w"], images: Float[Tensor, "_ c _ _"]) -> Float[Tensor, "b c h w"]:
    """Return the mixes in the dtype and the memory format of the batch that they join."""
    channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return mixes.to(images.dtype).contiguous(memory_format=memory_format)
