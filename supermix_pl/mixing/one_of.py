"""One of several mixers for each mix."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from supermix_pl.arguments import check_not_negative, shortest
from supermix_pl.mixing.blind import Chosen, Composed, DirectMixer
from supermix_pl.solver.rows import to_device


@dataclass(frozen=True, kw_only=True)
class OneOf(DirectMixer):
    """Draw for every mix which of several mixers makes it, such as half MixUp, half CutMix.

    Args:
        mixers: MixUp, CutMix, FMix, ResizeMix, SaliencyMix or PuzzleMix; all with the same k. The settings of each
            count, but not its pairing.
        weights: How often each is drawn, >= 0, not all 0. Only their proportions count. None draws all alike.

    The other arguments are those of `DirectMixer`, for all of them.

    Raises:
        TypeError: If one of the mixers has its masks solved, as SuperMix.
        ValueError: If there is no mixer, if their k differ, or if there is not one weight for each.
    """

    mixers: Sequence[DirectMixer] = field(kw_only=False)
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mixers", tuple(self.mixers))
        if not self.mixers:
            raise ValueError("expected at least one mixer in mixers, got none; give for instance [MixUp(), CutMix()]")
        for mixer in self.mixers:
            if not isinstance(mixer, DirectMixer):
                raise TypeError(
                    f"expected mixers that make their mixes at once, such as MixUp and CutMix, got {mixer!r}"
                )
        if len({mixer.k for mixer in self.mixers}) > 1:
            raise ValueError(f"expected mixers of one k, got {[mixer.k for mixer in self.mixers]}")
        object.__setattr__(self, "k", self.mixers[0].k)
        object.__setattr__(self, "needs_teacher", any(mixer.needs_teacher for mixer in self.mixers))
        if self.weights is not None:
            weights = tuple(self.weights)
            for weight in weights:
                check_not_negative("weights", weight)
            if len(weights) != len(self.mixers) or sum(weights) <= 0:
                raise ValueError(
                    f"expected a weight for each of {len(self.mixers)} mixers, not all 0, got {list(weights)}"
                )
            object.__setattr__(self, "weights", tuple(shortest(weight) for weight in weights))
        super().__post_init__()

    def place(self, chosen: Chosen) -> Composed:
        """Let each set's mixer make it."""
        shares = None if self.weights is None else np.array(self.weights, dtype=float) / sum(self.weights)
        indices, device = chosen.source_indices, chosen.images.device
        makers = chosen.rng.choice(len(self.mixers), size=len(indices), p=shares)
        parts: list[Composed] = []
        for number, mixer in enumerate(self.mixers):
            if (makers == number).any():
                rows = to_device(np.flatnonzero(makers == number), device)
                parts.append(mixer.place(replace(chosen, source_indices=indices[rows])))
        back = to_device(np.argsort(np.argsort(makers, kind="stable"), kind="stable"), device)
        sources, masks, weights = (
            torch.cat([getattr(part, name) for part in parts])[back] for name in ("sources", "masks", "weights")
        )
        return Composed(sources, masks, weights, sum(part.passes for part in parts))
