"""A document as a sequence of parts, tables among them, and how it is written: as Markdown, or for a terminal."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markdown import Markdown

Row = tuple[str, ...]
_WIDE = 180  # letters


@dataclass(frozen=True, kw_only=True)
class Heading:
    """The title of what follows."""

    text: str
    level: int = 2  # 1 for the document's, 2 for a chapter's


@dataclass(frozen=True, kw_only=True)
class Notes:
    """A list of remarks."""

    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table."""

    title: str
    columns: Row
    rows: Sequence[Row]  # each with as many cells as there are columns
    names: int = 1  # how many of the first columns are names, aligned left; the others are numbers


Part = Heading | Notes | Table


def markdown(parts: Sequence[Part]) -> str:
    """Write GitHub's Markdown."""
    blocks = []
    for part in parts:
        if isinstance(part, Heading):
            blocks.append("#" * part.level + f" {escape_markdown(part.text)}")
        elif isinstance(part, Notes):
            blocks.append("\n".join(f"- {_item(line)}" for line in part.lines))
        else:
            rule = tuple("---" if position < part.names else "---:" for position in range(len(part.columns)))
            lines = [
                "| " + " | ".join(cells) + " |"
                for cells in (
                    map(escape_markdown, part.columns),
                    rule,
                    *(map(escape_markdown, row) for row in part.rows),
                )
            ]
            blocks.append(f"### {escape_markdown(part.title)}\n\n" + "\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def show(parts: Sequence[Part]) -> None:
    """Print it; what is no terminal gets wide lines."""
    console = Console()
    (console if console.is_terminal else Console(width=_WIDE)).print(Markdown(markdown(parts)))


def escape_markdown(text: str) -> str:
    """Keep text from being markup."""
    escaped = re.sub(r"([\\`*|<&$])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", escaped)


def _item(text: str) -> str:
    """Keep a remark from starting a heading, a quotation or another list."""
    return re.sub(r"^(\d+(?=[.)])|(?=[#+\->~=]|\[.*\]:))", r"\1\\", escape_markdown(text))
