"""Under which views masks are solved, given what the student is shown."""

import warnings
from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from supermix_pl.mixing.views import Transform, keeps_graph
from supermix_pl.transforms import RandomCropFlip, View


def solving_view(
    views: str | Transform | None, shown: Transform | None, images: Float[Tensor, "b c h w"]
) -> Transform | None:
    """Return what `views` stands for; see `SuperMix.solving_view`."""
    if views is None or isinstance(views, View):
        return views
    if not isinstance(views, str):
        if not keeps_graph(views, images):
            raise ValueError(
                f"expected views through which gradients flow, got {views!r}, which breaks the graph; give a "
                "differentiable transform, such as RandomCropFlip() or one of kornia.augmentation"
            )
        return views
    if shown is not None and keeps_graph(shown, images):
        return shown
    if shown is not None:
        tell_substitute(repr(shown))
    return RandomCropFlip()


@lru_cache
def tell_substitute(shown: str) -> None:
    """Say, once for each transform, what masks are solved under where the student's views let no gradient through."""
    warnings.warn(
        f"no gradient flows through {shown}: the masks are solved under {RandomCropFlip()} instead, and the student "
        "sees the former. Give SuperMix(views=...) a differentiable transform to solve under another one.",
        stacklevel=5,
    )
