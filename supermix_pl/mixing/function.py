"""A function as a mixer."""

from collections.abc import Callable
from inspect import Parameter, ismethod, signature
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from supermix_pl.mixing.mixer import MixedBatch, Mixer, Seed
from supermix_pl.mixing.presenting import present
from supermix_pl.mixing.views import Transform
from supermix_pl.teacher.frozen import FrozenTeacher


class FunctionMixer(Mixer):
    """A function of (teacher, images, labels, *, seed) as a mixer: what it gives is shown and labelled as theirs is."""

    def __init__(self, function: Callable[..., MixedBatch]) -> None:
        self._function = function
        self.k = getattr(function, "k", 2)

    def __repr__(self) -> str:
        return f"FunctionMixer({self._function!r})"

    def __call__(
        self,
        teacher: FrozenTeacher | nn.Module | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None = None,
        *,
        seed: Seed,
        view: Transform | None = None,
        natural_logits: Float[Tensor, "b n"] | None = None,
    ) -> MixedBatch:
        mix = self._function(teacher, images, labels, seed=seed)
        return present(mix, teacher, images, view, seed=seed, exact=True)


def takes_seed(value: object) -> bool:
    """Return whether a function mixes; a class, a method that makes mixers and a network are called otherwise."""
    if not callable(value) or isinstance(value, type) or (ismethod(value) and isinstance(value.__self__, type)):
        return False
    call: Any = value.forward if isinstance(value, nn.Module) else value
    parameters = signature(call).parameters
    return "seed" in parameters or any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values())
