"""The batch engine: the sets of a batch are solved to the end, before its training step."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl.engine.base import Engine
from supermix_pl.mixing import MixedBatch, Mixer, Seed
from supermix_pl.mixing.views import Transform
from supermix_pl.teacher.frozen import FrozenTeacher


@dataclass(frozen=True)
class BatchEngine(Engine):
    """Solve all sets of a batch before its training step, to the end or to `max_steps`.

    Every mix is new, and costs all its steps at once. With mode="extend" the mixes show the very images that stand
    beside them.
    """

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
        """Return as many mixes as there are images; see `Engine.mix`."""
        return mixer(teacher, images, labels, seed=seed, view=view, natural_logits=natural_logits)
