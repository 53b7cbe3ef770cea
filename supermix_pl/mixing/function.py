"""A function as a mixer."""

from collections.abc import Callable
from inspect import Parameter, ismethod, signature

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


def as_mixer(mixer: Mixer | Callable[..., MixedBatch]) -> Mixer:
    """Wrap a function that mixes, unless it is a mixer; a class, a method that makes mixers and a network are none.

    Raises:
        TypeError: If it does not mix.
    """
    if isinstance(mixer, Mixer):
        return mixer
    makes = isinstance(mixer, type) or (ismethod(mixer) and isinstance(mixer.__self__, type))
    if callable(mixer) and not makes:
        parameters = signature(mixer.forward if isinstance(mixer, nn.Module) else mixer).parameters
        if "seed" in parameters or any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values()):
            return FunctionMixer(mixer)
    raise TypeError(f"expected mixer to be a SuperMix, MixUp, CutMix or other Mixer, got {mixer!r}")
