"""Where images and labels sit in a batch of any kind, and how new ones go in."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

Key = int | str | tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]
"""A position, a name, a dotted path such as "labelled.0", or a pair (get, set) of callables.

`get(batch)` gives the value; `set(batch, value)` gives a batch that has the new one, or changes the batch in place and
gives None.
"""

ITSELF: Key = (lambda batch: batch, lambda batch, value: value)
"""Names a batch that is the field."""


def check_key(name: str, key: Any) -> None:
    """Raise TypeError unless it is a key."""
    no_pair = isinstance(key, tuple) and not (len(key) == 2 and all(map(callable, key)))
    if key is None or no_pair or isinstance(key, bool | float):
        raise TypeError(
            f"expected {name} as a position, a name, a dotted path or a pair (get, set) of callables, got {key!r}"
        )


def get_field(batch: Any, key: Key) -> Any:
    """Read a field.

    Raises:
        KeyError: If the batch has no such field; the message lists what it has.
    """
    *_, field = _way(batch, key)
    return field


def is_exhausted(batch: Any, key: Key) -> bool:
    """Return whether a field, or what holds it, is None: its data loader has no more batches."""
    return any(held is None for held in _way(batch, key))


def set_field(batch: Any, key: Key, value: Any) -> Any:
    """Return a batch that has a new value in a field; the containers of the old batch stay as they are."""
    if isinstance(key, tuple):
        changed = key[1](batch, value)
        return batch if changed is None else changed
    return _set_path(batch, _path(batch, key), value, key)


def extend_fields(batch: Any, input_key: Key, target_key: Key, size: int, rows: Sequence[int] | None = None) -> Any:
    """Repeat some rows of all per-sample fields beside the images and the labels, which stay as they are.

    A field is per sample if it is a tensor, an array or a list of `size` rows, or a nested tensor or a packed sequence
    of `size` sequences. Of lists of `size` entries that is one of tensors, arrays or lists that all have `size` rows
    themselves: it is a list of fields. Entries of other kinds, such as dictionaries, belong to one sample each,
    whatever they hold. Only the smallest container that holds both images and labels is looked at, so the batches of
    other dataloaders beside it are not touched; and in it only what lies in mappings, lists, tuples, data classes and
    the objects on the way to images and labels. Other objects stay as they are. None stands for all rows.

    Raises:
        TypeError: If a tensor of `size` rows is stored in a way in which torch cannot repeat it.
    """
    rows = list(range(size) if rows is None else rows)
    images, labels = get_field(batch, input_key), get_field(batch, target_key)
    if isinstance(input_key, tuple) or isinstance(target_key, tuple):
        return _Repeat(size, rows, {id(batch), id(images), id(labels)}).of(batch)
    images, labels = images[:], labels[:]  # objects of their own: another field that holds the same tensor is repeated
    batch = set_field(set_field(batch, input_key, images), target_key, labels)
    ways = [list(_way(batch, key)) for key in (input_key, target_key)]
    paths = zip(_path(batch, input_key)[:-1], _path(batch, target_key)[:-1], strict=False)
    shared = [step for step, other in takewhile(lambda pair: pair[0] == pair[1], paths)]
    kept = {id(value) for way in ways for value in way}
    return _set_path(batch, shared, _Repeat(size, rows, kept).of(ways[0][len(shared)]), input_key)


def like(fresh: Tensor, old: Tensor) -> Tensor:
    """Return a tensor as one of the class of another, such as a tv_tensor, with what that holds beside its values."""
    if type(old) is type(fresh) or isinstance(old, Parameter):
        return fresh
    fresh = fresh.as_subclass(type(old))
    vars(fresh).update(vars(old))
    return fresh


def _way(batch: Any, key: Key) -> Iterator[Any]:
    """Yield all that holds a field, the outermost first, and at last the field."""
    if isinstance(key, tuple):
        yield key[0](batch)
        return
    yield batch
    for step in _path(batch, key):
        batch = _child(batch, step, key)
        yield batch


def _path(batch: Any, key: int | str) -> list[int | str]:
    """Split a dotted path; a name that the batch has as it stands is not split."""
    if isinstance(key, int) or (isinstance(batch, Mapping) and key in batch):
        return [key]
    return [int(part) if part.lstrip("-").isdigit() else part for part in key.split(".")]


def _child(batch: Any, step: int | str, key: Key) -> Any:
    try:
        if isinstance(batch, Mapping):
            return batch[step if step in batch or str(step) not in batch else str(step)]
        if isinstance(step, int) and isinstance(batch, list | tuple):
            return batch[step]
        if isinstance(step, str) and not isinstance(batch, list) and step in _names(batch):
            return getattr(batch, step)
    except (KeyError, IndexError):
        pass
    raise KeyError(
        f"expected the batch to have the field {key!r}, got {_describe(batch)} without {step!r}; give input_key= and "
        "target_key= as a position, a name, a dotted path or a pair (get, set) of callables"
    )


def _names(batch: Any) -> list[str]:
    """Name the fields of a named tuple, a data class or an object with attributes."""
    if dataclasses.is_dataclass(batch):
        return [field.name for field in dataclasses.fields(batch)]
    return list(getattr(batch, "_fields", getattr(batch, "__dict__", ())))


def _describe(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} with keys {list(batch)}"
    if isinstance(batch, list | tuple) and not hasattr(batch, "_fields"):
        return f"a {type(batch).__name__} of {len(batch)}"
    names = [] if isinstance(batch, Tensor) else _names(batch)
    return f"a {type(batch).__name__}" + (f" with fields {names}" if names else "")


def _set_path(batch: Any, path: list[int | str], value: Any, key: Key) -> Any:
    if not path:
        return value
    step, rest = path[0], path[1:]
    return _replaced(batch, {step: _set_path(_child(batch, step, key), rest, value, key)})


def _replaced(batch: Any, changes: Mapping[Any, Any]) -> Any:
    """Copy one container with some of its children exchanged."""
    if not changes:
        return batch
    if isinstance(batch, Mapping):
        named = {step if step in batch else str(step): value for step, value in changes.items()}
        if not isinstance(batch, MutableMapping):
            return type(batch)({**batch, **named})  # pyright: ignore[reportCallIssue]
        fresh = copy.copy(batch)
        for name, value in named.items():
            fresh[name] = value
        return fresh
    if isinstance(batch, list | tuple):
        names = getattr(batch, "_fields", ())
        children = list(batch)
        for step, value in changes.items():
            children[names.index(step) if isinstance(step, str) else step] = value
        return _refilled(batch, children)
    fresh = copy.copy(batch)
    for step, value in changes.items():
        object.__setattr__(fresh, step, value)
    return fresh


def _refilled(value: Any, children: Iterable[Any]) -> Any:
    """Make a list or a tuple of the same class; one whose class is built from other arguments too."""
    if isinstance(value, list):
        fresh = copy.copy(value)
        fresh[:] = children
        return fresh
    return type(value)._make(children) if hasattr(value, "_fields") else type(value)(children)


@dataclasses.dataclass(frozen=True)
class _Repeat:
    """Puts rows, in [0, size), behind what has `size` of them; what has an id in `kept` is not repeated itself."""

    size: int
    rows: list[int]
    kept: set[int]

    def of(self, value: Any, inside: frozenset[int] = frozenset()) -> Any:
        """Extend what is in plain containers, and in objects that are kept; those it is inside of stay."""
        if id(value) in inside or isinstance(value, str | bytes | torch.Size):
            return value
        if isinstance(value, PackedSequence):  # a named tuple of which no field has a row a sample
            return self._packed(value) if int(value.batch_sizes[0]) == self.size else value
        if isinstance(value, Tensor | np.ndarray):
            return self._extended(value) if id(value) not in self.kept and _has_rows(value, self.size) else value
        rows = _is_sequence(value) and len(value) == self.size
        if rows and not _is_container_of_fields(value, self.size, self.kept):
            return _refilled(value, [*value, *(value[row] for row in self.rows)])
        within, children = inside | {id(value)}, _children(value, whole=id(value) in self.kept)
        return _replaced(value, {name: self.of(child, within) for name, child in children.items()})

    def _extended(self, value: Tensor | np.ndarray) -> Tensor | np.ndarray:
        if isinstance(value, np.ndarray):
            return value[[*range(self.size), *self.rows]]  # masks and record names are kept
        if value.is_nested:
            parts = value.unbind()
            return torch.nested.as_nested_tensor([*parts, *(parts[row] for row in self.rows)], layout=value.layout)
        try:
            return like(torch.cat([value, self._behind(value)]), value)
        except (RuntimeError, NotImplementedError) as error:
            raise TypeError(
                "expected fields that torch.cat can repeat beside the images, got a tensor of shape "
                f"{tuple(value.shape)} and layout {value.layout}; collate it into a dense or COO tensor, or choose "
                'mode="replace"'
            ) from error

    def _packed(self, value: PackedSequence) -> PackedSequence:
        padded, lengths = pad_packed_sequence(value, batch_first=True)
        padded, lengths = (torch.cat([each, self._behind(each)]) for each in (padded, lengths))
        return pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)

    def _behind(self, value: Tensor) -> Tensor:
        if self.rows == list(range(self.size)):
            return value
        return value.index_select(0, torch.tensor(self.rows, device=value.device))


def _has_rows(value: Tensor | np.ndarray, size: int) -> bool:
    return value.ndim > 0 and (value.size(0) if isinstance(value, Tensor) else len(value)) == size  # some have no len


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple) and not hasattr(value, "_fields") and not isinstance(value, torch.Size)


def _is_container_of_fields(value: list | tuple, size: int, kept: set[int]) -> bool:
    """Return whether a list holds fields, and not an entry a sample, of which some may have `size` rows by chance."""
    return any(_holds(child, kept) for child in value) or all(_is_field(child, size) for child in value)


def _is_field(value: Any, size: int) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return _has_rows(value, size)
    return _is_sequence(value) and len(value) == size


def _holds(value: Any, kept: set[int], inside: frozenset[int] = frozenset()) -> bool:
    """Return whether a value is, or has in it, one of those kept."""
    if id(value) in kept:
        return True
    if id(value) in inside:
        return False
    within = inside | {id(value)}
    return any(_holds(child, kept, within) for child in _children(value).values())


def _children(value: Any, *, whole: bool = False) -> Mapping[Any, Any]:
    """Return what a container holds by its place; of other objects than data classes only where they are `whole`."""
    if isinstance(value, Mapping):
        return value
    if _is_sequence(value):
        return dict(enumerate(value))
    named_tuple = isinstance(value, tuple) and hasattr(value, "_fields")
    if named_tuple or whole or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return {name: getattr(value, name) for name in _names(value)}
    return {}
