"""Numbers that a measurement should reach."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """A number that a measurement should reach.

    Args:
        what: What is measured.
        limit: The number.
        at_least: Whether it is a lower limit; otherwise it is an upper one.
    """

    what: str
    limit: float
    at_least: bool = False

    def met(self, value: float | None) -> bool:
        """Return whether a measured value reaches it; one that could not be measured does not."""
        return value is not None and (value >= self.limit if self.at_least else value <= self.limit)

    def verdict(self, value: float | None) -> str:
        """Write what was wanted and whether it is met.

        >>> Target(what="ratio", limit=1.1).verdict(1.2)
        'ratio <= 1.1: missed'
        """
        found = "not measured" if value is None else "met" if self.met(value) else "missed"
        return f"{self.what} {'>=' if self.at_least else '<='} {self.limit:g}: {found}"
