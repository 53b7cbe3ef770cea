"""What becomes of sets that end without being solved; `how` is "keep", "source" or "mixup", see `SuperMix`."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from supermix_pl.mixing.choosing import Chosen
from supermix_pl.mixing.natural import NaturalPass
from supermix_pl.mixing.presenting import log_targets
from supermix_pl.solver import Outcome, Sets, Solution
from supermix_pl.solver.masks import mix_images, uniform_logits
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.teacher.passes import Chunks, bucket, fill_up


def restored(
    how: str, mix_weights: Float[Tensor, "b k"], outcomes: Int[Tensor, " b"]
) -> tuple[Float[Tensor, "b k"], Bool[Tensor, " b"]]:
    """Give all weight to the first source of sets that get it back, and say which these are."""
    rows = outcomes == Outcome.NON_FINITE
    if how == "source":
        rows = rows | (outcomes == Outcome.CAPPED)
    alone = torch.zeros_like(mix_weights)
    alone[:, 0] = 1
    return torch.where(rows[:, None], alone, mix_weights), rows


def settle(
    how: str, mask_logits: Float[Tensor, "r k s t"], mix_weights: Float[Tensor, "r k"], outcomes: Int[Tensor, " r"]
) -> tuple[Float[Tensor, "r k s t"], Float[Tensor, "r k"]]:
    """Return the masks, on their grid, and the weights that sets are kept with."""
    weights, changed = restored(how, mix_weights, outcomes)
    if how == "mixup":
        changed = changed | (outcomes == Outcome.CAPPED)
    uniform = uniform_logits(weights)[:, :, None, None]
    return torch.where(changed[:, None, None, None], uniform, mask_logits), weights


def own_logits(natural: NaturalPass, chosen: Chosen) -> Float[Tensor, "b n"]:
    """Return the teacher's logits of the first sources: certainty of the class where it gave none that are finite."""
    first = chosen.source_indices[:, 0]
    certain = log_targets(one_hot(chosen.classes[first], natural.num_classes).float())
    if natural.logits is None:
        return certain
    logits = natural.logits[first]
    return torch.where(logits.isfinite().all(dim=1, keepdim=True), logits, certain.to(logits))


def average_capped(
    teacher: FrozenTeacher,
    sets: Sets,
    solution: Solution,
    masks: Float[Tensor, "b k h w"],
    mix_weights: Float[Tensor, "b k"],
    chunks: Chunks,
) -> Float[Tensor, "b k h w"]:
    """Replace the masks of capped sets by their mixing weights, and show these mixes to the teacher."""
    rows = (solution.outcomes == Outcome.CAPPED).nonzero().squeeze(1)
    if len(rows) == 0:
        return masks
    masks = masks.index_copy(0, rows, mix_weights[rows][:, :, None, None].expand(-1, -1, *masks.shape[2:]))
    shown = bucket(len(rows), len(masks)) if teacher.compile else len(rows)
    mixes = fill_up(mix_images(sets.sources[rows], masks[rows]), shown)
    logits = torch.cat(chunks.run(lambda part: teacher(mixes[part]), shown))[: len(rows)]
    solution.teacher_logits[rows] = logits
    solution.outcomes[rows] = torch.where(logits.isfinite().all(dim=1), int(Outcome.CAPPED), int(Outcome.NON_FINITE))
    solution.forwards += shown
    return masks
