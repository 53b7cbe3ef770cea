"""A document as a sequence of parts, tables among them, which `render` writes in every format."""

from dataclasses import dataclass

Row = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Heading:
    """The title of what follows."""

    text: str
    level: int = 2  # 1 for the document's, 2 for a chapter's


@dataclass(frozen=True, kw_only=True)
class Notes:
    """A list of remarks."""

    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table."""

    title: str
    columns: Row
    sections: tuple[tuple[Row, ...], ...]  # groups of rows, each with as many cells as there are columns
    names: int = 1  # how many of the first columns are names, aligned left; the others are numbers


Part = Heading | Notes | Table
