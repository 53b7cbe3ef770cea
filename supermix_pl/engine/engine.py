"""What an engine is: the decision when sets are solved, and which mixes a training step gets."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.mixing import MixedBatch, Mixer, Seed
from supermix_pl.teacher import FrozenTeacher
from supermix_pl.views import Transform


def _alone(value: Any) -> Any:
    return value


def _unknown() -> None:
    return None


@dataclass(frozen=True)
class Run:
    """The training run that an engine serves.

    Args:
        is_first_rank: Whether this process is rank 0.
        broadcast: Gives every rank the value of rank 0; called by all ranks at once.
        training_seconds: Gives the median time of a training step without its mixing; None if none was seen yet.
    """

    is_first_rank: bool = True
    broadcast: Callable[[Any], Any] = _alone
    training_seconds: Callable[[], float | None] = _unknown


class Engine(ABC):
    """Decides when the sets of a batch are solved and which mixes its training step gets."""

    @property
    def default_transform(self) -> Transform | None:
        """What the student sees mixes under where the user names no transform."""
        return None

    @property
    def takes_natural_logits(self) -> bool:
        """Whether logits of the natural images, where they are wanted anyway, spare it passes."""
        return False

    @property
    def solves_now(self) -> bool:
        """Whether the sets of a batch have been solved to their end when it is shown."""
        return True

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
    ) -> MixedBatch:
        """Give as many mixes as there are images, as the student sees them, with logits of exactly what is shown.

        Args:
            mixer: Makes the mixes.
            teacher: Supervises and labels them.
            images: The natural batch.
            labels: Its class indices, if there are any.
            seed: Names the batch's stream of chance.
            view: What the student is to see the mixes under; None for the mixes as they are.
            natural_logits: The teacher's logits of `images`, where they are known already.
        """

    @property
    def steps(self) -> int:
        """Batches that were mixed so far, if the engine counts them."""
        return 0

    @property
    def period(self) -> int:
        """Batches after which its work repeats itself; logged costs are averaged over it."""
        return 1

    def check(self, mixer: Mixer) -> None:  # noqa: B027
        """Refuse a mixer that this engine cannot work with."""

    def begin(self, run: Run) -> None:  # noqa: B027
        """Start anew with a training run; `load_state_dict` comes later, where one is resumed."""

    def end(self) -> None:  # noqa: B027
        """Let go of the run and of its tensors; `state_dict` still tells what it came to."""

    def metrics(self) -> dict[str, float]:
        """Give what is worth logging of the last batch, by names without prefix."""
        return {}

    def to_show(self, images: Float[Tensor, "b c h w"], mix: MixedBatch) -> tuple[Float[Tensor, "m c h w"], MixedBatch]:
        """Give mixes as the student saw them, and the images that their `source_indices` name, for a picture."""
        return images, mix

    def state_dict(self) -> dict[str, Any]:
        """Give the plain numbers that belong into a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take up what `state_dict` gave."""

    def tensors(self) -> dict[str, Tensor]:
        """Give what is too large for a checkpoint, and needed to go on as if nothing had happened."""
        return {}

    def load_tensors(self, tensors: dict[str, Tensor], device: torch.device) -> None:  # noqa: B027
        """Take up what `tensors` gave."""
