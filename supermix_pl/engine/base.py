"""What an engine is: the decision when sets are solved, and which mixes a training step gets."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing import MixedBatch, Mixer, Seed
from supermix_pl.mixing.views import Transform
from supermix_pl.teacher.frozen import FrozenTeacher


def _alone(value: Any) -> Any:
    return value


def _unknown() -> None:
    return None


def count_mixes(mix_ratio: float, num_images: int) -> int:
    """Return how many mixes join a batch: the ratio's share of its images to the nearest integer, halves up, >= 1.

    >>> [count_mixes(0.25, size) for size in (1, 2, 6, 16)], count_mixes(1.5, 5)
    ([1, 1, 2, 4], 8)
    """
    return max(1, math.floor(mix_ratio * num_images + 0.5))


@dataclass(frozen=True)
class Run:
    """What an engine must know of the training run.

    Args:
        broadcast: Gives every rank the value of rank 0. All ranks call it at once.
        training_seconds: Returns the median time of a training step without its mixing; None if none was measured yet.
    """

    broadcast: Callable[[Any], Any] = _alone
    training_seconds: Callable[[], float | None] = _unknown


class Engine(ABC):
    """Decides when sets are solved, and which mixes a training step gets.

    Subclass it and write `mix`. The other methods have defaults for an engine that keeps nothing between batches.
    """

    budget: float | None = None
    """Time that solving may add, as a share of a training step; None where that is not bounded."""
    takes_natural_logits: bool = False
    """Whether logits of the natural images spare this engine passes of the teacher."""
    needs_teacher: bool = False
    """Whether it mixes images whose classes only a teacher tells, whatever the mixer is."""
    solves_now: bool = True
    """Whether the sets of a batch are solved to their end when the batch is shown."""
    default_transform: Transform | None = None
    """The view of the mixes if the user names none; None for the mixes as they are."""

    @abstractmethod
    def mix(
        self,
        mixer: Mixer,
        teacher: FrozenTeacher | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None,
        *,
        seed: Seed,
        view: Transform | None = None,
        natural_logits: Float[Tensor, "b n"] | None = None,
        num_mixes: int | None = None,
    ) -> MixedBatch:
        """Return mixes as the student sees them, with the teacher's logits of exactly what is shown.

        Args:
            mixer: Makes the mixes.
            teacher: Supervises and labels them.
            images: The natural batch.
            labels: Its class indices in [0, n), if there are any.
            seed: Random seed of the batch.
            view: The view under which the student sees the mixes; None for the mixes as they are.
            natural_logits: The teacher's logits of `images`, if they are known already.
            num_mixes: How many, >= 1; None for as many as there are images.
        """

    @property
    def steps(self) -> int:
        """Batches that were mixed so far, if the engine counts them."""
        return 0

    def check(self, mixer: Mixer) -> None:  # noqa: B027
        """Raise an error if this engine cannot work with the mixer."""

    def begin(self, run: Run) -> None:  # noqa: B027
        """Start anew with a training run. If it resumes, `load_state_dict` follows."""

    def end(self) -> None:  # noqa: B027
        """Let go of the run and of its tensors; `state_dict` still tells what it came to."""

    def metrics(self) -> dict[str, float]:
        """Return the engine's metrics of the last batch, by names without prefix."""
        return {}

    def to_show(self, images: Float[Tensor, "b c h w"], mix: MixedBatch) -> tuple[Float[Tensor, "m c h w"], MixedBatch]:
        """Return mixes as the student saw them, and the images that their `source_indices` point to, for a picture."""
        return images, mix

    def state_dict(self) -> dict[str, Any]:
        """Return the plain numbers that a checkpoint must have."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore what `state_dict` returned."""

    def tensors(self) -> dict[str, Tensor]:
        """Return tensors too large for a checkpoint that an exact continuation needs."""
        return {}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:  # noqa: B027
        """Restore what `tensors` returned; a ValueError if it is of something else."""
