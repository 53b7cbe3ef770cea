"""What is read out of a network's passes: its logits, and the output of one of its parts."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Outputs = tuple[Float[Tensor, "b n"], Float[Tensor, "b ..."] | None]
"""Logits, and the features that are asked for."""

NO_GRADIENT = (
    "expected the teacher's logits to have a gradient with respect to its images, got none; let its forward run "
    "without torch.no_grad(), detach(), rounding and quantised layers"
)


class Reader:
    """Runs a network, and reads its logits and the output of the part named `features`, with a graph unless `detached`.

    A hook takes the features, for the time of a pass only: the network may be someone's own.
    """

    def __init__(self, network: nn.Module, features: str | None, *, detached: bool = True) -> None:
        self._network, self._features, self._detached = network, features, detached
        self._taken: Any = None

    def __call__(self, images: Tensor, run: Callable[[Tensor], tuple[Tensor, Any]] | None = None) -> Outputs:
        """Return what a pass gives; `run` is this reader's, compiled."""
        if self._features is None:
            return (run or self.run)(images)
        hook = self._network.get_submodule(self._features).register_forward_hook(self._take)
        try:
            logits, features = (run or self.run)(images)
        finally:
            hook.remove()
        rows = features.shape[:1] if isinstance(features, Tensor) and features.is_floating_point() else None
        if rows != images.shape[:1]:
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(
                f"expected features={self._features!r} to run in each pass and to give one floating point tensor with "
                f"a row for each of {len(images)} images, got {shape}; name another part"
            )
        return logits, features

    def run(self, images: Tensor) -> tuple[Float[Tensor, "b n"], Any]:
        """Make the pass; without what Python alone can do, so that it compiles as a whole."""
        logits = logits_of(self._network(images))
        features, self._taken = self._taken, None
        return logits, features

    def _take(self, part: nn.Module, given: Any, output: Any) -> None:
        # Cloned, as the next part may work in place
        if isinstance(output, Tensor):
            output = (output.detach() if self._detached else output).clone()
        self._taken = output


def image_gradient(value: Float[Tensor, ""], images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Return the gradient of a number that the teacher's logits give with respect to its images, or refuse it."""
    (gradient,) = torch.autograd.grad(value, images, allow_unused=True)
    if gradient is None:
        raise ValueError(NO_GRADIENT)
    return gradient


def check_part(argument: str, module: nn.Module, name: str) -> None:
    """Refuse a value of an argument that names no part of a network, or one of a TorchScript program."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            f"expected {argument}=None for a TorchScript program, whose parts cannot be looked into, got {name!r}; "
            "give the network that it was made of"
        )
    names = [each for each, _ in module.named_modules() if each]
    if name in names:
        return
    near = get_close_matches(str(name), names, n=5, cutoff=0.4) or names[:5]
    raise ValueError(
        f"expected {argument} as the name of a part of {type(module).__name__}, such as {', '.join(near) or 'none'}, "
        f"got {name!r}; module.named_modules() lists them"
    )


def unwrapped(output: Any) -> Any:
    """Return what a network's output holds as its logits, if it holds some; else the output."""
    if isinstance(output, Mapping) and "logits" in output:
        output = output["logits"]
    return getattr(output, "logits", output)


def logits_of(output: Any) -> Float[Tensor, "b n"]:
    """Find the logits in what a classifier gives, or refuse what it gives."""
    output = unwrapped(output)
    if not isinstance(output, Tensor):
        raise TypeError(
            "expected the teacher to give a tensor of logits, an output with .logits or a mapping with 'logits', got "
            f"{type(output).__name__}; wrap the teacher in a module that returns its logits"
        )
    if output.ndim != 2 or not output.is_floating_point():
        raise ValueError(
            f"expected the teacher's logits to be floating point of shape (b, n), got {output.dtype} of shape "
            f"{tuple(output.shape)}; pool or flatten them in a module around the teacher"
        )
    if output.shape[1] == 1:
        raise ValueError(
            "expected the teacher's logits to be of two or more classes, got one; of a single logit z of two classes "
            "let a module around the teacher return torch.cat([torch.zeros_like(z), z], dim=1)"
        )
    return output


def are_probabilities(logits: Float[Tensor, "b n"]) -> bool:
    """Return whether logits are what a softmax gives: in each row numbers >= 0 that sum to 1."""
    values = logits.detach().float()
    return bool((values >= 0).all()) and bool((values.sum(dim=1) - 1).abs().max() < 1e-2)
