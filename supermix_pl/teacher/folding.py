"""A private copy of a frozen network whose passes take less: batch norm folded, weights cast once for autocast."""

import copy
import itertools
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from operator import is_
from threading import get_ident
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from supermix_pl.teacher.outputs import Reader

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_OF_MODULES = frozenset(vars(nn.Module())) - {"training"}  # the tensors, parts and hooks, which have a stamp
_CONTAINERS = (list, dict, tuple, set, frozenset, deque, Tensor, np.ndarray)
_TF32_SLACK = 10


def fold_batch_norm(module: nn.Module) -> nn.Module | None:
    """Copy a network with each batch norm in eval mode folded that alone reads a convolution's output.

    The structure is read off a symbolic trace, so that only what holds for every input is folded.

    Returns:
        The copy; None where there is nothing to fold, where the network cannot be traced, or where a copy would be
        missed: by hooks, or by those who read what its `forward` leaves in its attributes.
    """
    kinds = {type(part) for part in module.modules()}
    if not {nn.Conv2d, nn.BatchNorm2d} <= kinds or any(map(_hooks_of, _parts(module))):
        return None
    try:
        folded = copy.deepcopy(module)
        before = [dict(vars(part)) for part in folded.modules()]
        pairs = _pairs(folded)
        same = all(
            then.keys() == vars(part).keys() and all(map(is_, then.values(), vars(part).values()))
            for then, part in zip(before, folded.modules(), strict=True)
        )
    except Exception:  # any code may be behind a foreign module: what cannot be traced runs as it is
        return None
    if not pairs or not same:
        return None
    for convolution, norm in pairs:
        _fold(convolution, norm)
    norms = {norm for _, norm in pairs}
    for part in list(folded.modules()):
        for name, child in part.named_children():
            if child in norms:
                setattr(part, name, nn.Identity())
    return folded


def _pairs(module: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find the convolutions whose output goes to a batch norm and nowhere else; both are used once."""
    graph, parts = _trace(module)
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    read = _read(graph)
    found = []
    for node in graph.nodes:
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1 or node.kwargs:
            continue
        names = {str(source.target), str(node.target)}
        convolution, norm = parts[str(source.target)], parts[str(node.target)]
        if all(calls[name] == 1 for name in names) and not names & read and _foldable(convolution, norm):
            found.append((convolution, norm))
    return found


def _trace(module: nn.Module) -> tuple[fx.Graph, dict[str, nn.Module]]:
    """Trace a network's call; give the graph, and the parts by the names that it has for them."""
    call = _Call(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _Tracer().trace(call), dict(call.named_modules())


def _read(graph: fx.Graph) -> set[str]:
    """Name the parts whose tensors are read from outside."""
    return {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}


class _Tracer(fx.Tracer):
    """Traces the calls of its own thread; those of others, such as of one that loads images, it lets through."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = get_ident()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record a call; torch.fx catches those of all threads."""
        if get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


class _Call(nn.Module):
    """The call of a network with images alone; logits are no feature maps, so what it returns plays no part."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Any) -> Any:
        self.module(images)
        return images


def _foldable(convolution: nn.Module, norm: nn.Module) -> bool:
    # Subclasses, parametrised modules among them, may compute something else
    if type(convolution) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or norm.training:
        return False
    tensors = [norm.running_mean, norm.running_var, *norm.parameters()]
    return all(tensor is not None and tensor.dtype == convolution.weight.dtype for tensor in tensors)


@torch.no_grad()
def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Change a convolution in place so that it gives what the norm made of its output, rounded from float64."""
    tensors = (convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    # On the host: there are devices without float64
    weight, bias, mean, variance, scale, shift = (None if each is None else each.cpu().double() for each in tensors)
    fused: Any = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)  # pyright: ignore[reportArgumentType]
    convolution.weight, convolution.bias = (
        nn.Parameter(each.to(convolution.weight), requires_grad=False) for each in fused
    )


def _cast_weights(module: nn.Module, kinds: tuple[type[nn.Module], ...], dtype: torch.dtype) -> None:
    """Keep the weights of some kinds of layers as autocast would cast them anew in each pass."""
    graph, parts = _trace(module)
    called = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    for name in called - _read(graph):
        part = parts[name]
        if type(part) in kinds and part.weight.dtype == torch.float32:
            part.to(dtype)


class FoldedCopy:
    """What stands in for a network in eval mode: its folded copy, made at first use and again when the network changes.

    Changes are seen at each use: by the version counters and addresses of the network's tensors, by its hooks, and by
    its attributes, what containers, arrays, tensors and plain objects in them hold included. Writing into the `data` of
    a tensor, and what `forward` reads from elsewhere, leave no such trace; `forget` is for those.
    """

    def __init__(
        self, module: nn.Module, features: str | None, *, channels_last: bool, autocast_dtype: torch.dtype | None
    ) -> None:
        self._module, self._features = module, features
        self._channels_last, self._autocast_dtype = channels_last, autocast_dtype
        self.forget()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the copy, which the next use makes anew."""
        return vars(self) | {"_stamp": None, "_stand_in": self._module, "_attributes": Attributes()}

    def forget(self) -> None:
        """Make the copy anew at the next use."""
        self._stamp: list[Any] | None = None
        self._attributes = Attributes()
        self._stand_in = self._module

    @torch.inference_mode(False)
    def for_images(self, images: Float[Tensor, "b c h w"]) -> nn.Module:
        """Return the copy, or the network itself where none can be made that agrees with it on the first two images."""
        stamp = _stamp(self._module)
        if stamp != self._stamp or self._attributes.changed():
            self.forget()
            folded = fold_batch_norm(self._module)
            if folded is not None and self._channels_last:
                folded = folded.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            if folded is not None and self._agrees(folded, images[:2].detach()):
                self._stand_in = self._cast(folded, images[:2].detach())
                self._attributes = Attributes(self._module)
            self._stamp = stamp
        return self._stand_in

    @torch.no_grad()
    def _cast(self, folded: nn.Module, images: Float[Tensor, "r c h w"]) -> nn.Module:
        """Return a copy with weights that need no cast, if under autocast it gives the same logits."""
        if self._autocast_dtype is None:
            return folded
        with torch.autocast(images.device.type, dtype=self._autocast_dtype):
            expected = self._read(folded, images)
            for kinds in ((nn.Conv2d, nn.Linear), (nn.Conv2d,)):  # a head may be kept out of autocast
                cast = copy.deepcopy(folded)
                try:
                    _cast_weights(cast, kinds, self._autocast_dtype)
                    torch.testing.assert_close(self._read(cast, images), expected, equal_nan=True)
                except Exception:  # for instance one of the convolutions too
                    continue
                return cast
        return folded

    @torch.no_grad()
    def _agrees(self, folded: nn.Module, images: Float[Tensor, "r c h w"]) -> bool:
        """Compare logits and features of the two, up to rounding."""
        with torch.autocast(images.device.type, enabled=False):
            expected = self._read(self._module, images)
            try:
                found = self._read(folded, images)
            except Exception:  # for instance code that reads the attributes of a batch norm
                return False
        return all(map(_close, found, expected))

    def _read(self, network: nn.Module, images: Float[Tensor, "r c h w"]) -> list[Tensor]:
        """Return what the network gives; it may work in place."""
        return [each for each in Reader(network, self._features)(images.clone()) if each is not None]


def _close(found: Tensor, expected: Tensor) -> bool:
    tolerance = torch.finfo(expected.dtype).eps ** 0.5 * (_TF32_SLACK if expected.is_cuda else 1)
    size = float(expected.nan_to_num(0, 0, 0).abs().max())
    return torch.allclose(found, expected, rtol=0, atol=tolerance * size, equal_nan=True)


class Attributes:
    """The attributes of a network's parts and what they hold, to see whether something else is there now."""

    def __init__(self, module: nn.Module | None = None) -> None:
        self._held: list[tuple[Any, list[Any]]] = []
        self._written: list[tuple[Any, Any]] = []
        parts = [] if module is None else list(_parts(module))
        self._forwards = [(part, type(part).forward) for part in parts]
        seen = {id(part) for part in parts}
        left: list[Any] = [vars(part) for part in parts]
        while left:
            held = left.pop()
            if id(held) in seen:
                continue
            seen.add(id(held))
            if isinstance(held, Tensor | np.ndarray):
                self._written.append((held, _content(held)))
                continue
            now = _inside(held)
            self._held.append((held, now))
            kept = [held[name] for name in held if name not in _OF_MODULES] if isinstance(held, dict) else now
            left += [value for value in kept if isinstance(value, _CONTAINERS) or _is_plain_object(value)]

    def changed(self) -> bool:
        """Return whether anything was added, taken away or replaced."""
        if any(type(part).forward is not forward for part, forward in self._forwards):
            return True
        for held, then in self._held:
            now = _inside(held)
            if len(now) != len(then) or not all(map(is_, now, then)):
                return True
        return any(_content(held) != then for held, then in self._written)


def _inside(held: Any) -> list[Any]:
    """Return what a container or an object holds."""
    if isinstance(held, _CONTAINERS):
        return list(held.values() if isinstance(held, dict) else held)
    slots = [vars(kind).get("__slots__", ()) for kind in type(held).__mro__]
    names = itertools.chain.from_iterable([each] if isinstance(each, str) else each for each in slots)
    in_slots = [getattr(held, name) for name in names if name != "__dict__" and hasattr(held, name)]
    return [*getattr(held, "__dict__", {}).values(), *in_slots]


def _content(held: Tensor | np.ndarray) -> Any:
    """Return what is another value after writing in place."""
    if isinstance(held, np.ndarray):
        return held.tobytes()
    return None if held.is_inference() else held._version


def _is_plain_object(value: Any) -> bool:
    """Return whether a value holds settings, such as a namespace or a dataclass, and is no code."""
    holds = hasattr(value, "__dict__") or hasattr(type(value), "__slots__")
    return holds and not isinstance(value, type | nn.Module | FunctionType | MethodType | ModuleType)


def _stamp(module: nn.Module) -> list[Any]:
    """Note what changes when the weights do, or the hooks."""
    stamp: list[Any] = []
    for part in _parts(module):
        stamp += [id(part), _hooks_of(part)]
        for tensors in (part._parameters, part._buffers):
            for tensor in tensors.values():
                if tensor is not None:
                    version = None if tensor.is_inference() else tensor._version
                    stamp += [id(tensor), version, tensor.data_ptr(), tensor.dtype]
    return stamp


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Walk over a network and its parts, as `modules()` does but in a fraction of its time."""
    left = [module]
    while left:
        part = left.pop()
        yield part
        left += [child for child in part._modules.values() if child is not None]


def _hooks_of(part: nn.Module) -> int:
    return sum(len(getattr(part, name)) for name in _HOOKS)
