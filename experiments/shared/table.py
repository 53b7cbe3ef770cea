"""A document as a sequence of parts, tables among them, which `render` writes in every format."""

from dataclasses import dataclass

Row = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Heading:
    """The title of what follows.

    Args:
        text: The title.
        level: 1 for the document's, 2 for a chapter's.
    """

    text: str
    level: int = 2


@dataclass(frozen=True, kw_only=True)
class Notes:
    """A list of remarks."""

    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table.

    Args:
        title: Above the cells.
        columns: Their heads.
        sections: Groups of rows, each with as many cells as there are columns.
        names: How many of the first columns are names, aligned left; the others are numbers.
    """

    title: str
    columns: Row
    sections: tuple[tuple[Row, ...], ...]
    names: int = 1


Part = Heading | Notes | Table
