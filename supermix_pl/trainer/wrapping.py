"""Methods of a trainer's strategy that are ours for a while."""

from collections.abc import Callable
from typing import Any


class Wrapped:
    """Replaces methods, by name, on an instance; `remove` gives it back what it had, once."""

    def __init__(self, owner: Any, **methods: Callable[..., Any]) -> None:
        self._owner = owner
        self._previous = {name: vars(owner).get(name) for name in methods}
        for name, method in methods.items():
            setattr(owner, name, method)

    def remove(self) -> None:
        """Give the instance its own methods back; what someone has put there since a first call stays."""
        while self._previous:
            name, previous = self._previous.popitem()
            if previous is None:
                vars(self._owner).pop(name, None)
            else:
                setattr(self._owner, name, previous)
