"""What all figures have in common: sizes of letters, and how they are written."""

import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

TITLE, LABEL, SMALL = 11, 9, 8
_DPI = 130
_LETTERS_AN_INCH = 13


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A figure, and the numbers in it."""

    figure: Figure
    numbers: list[dict[str, Any]] = field(default_factory=list)  # rows of what it shows, ready for JSON
    seeds: list[int] = field(default_factory=list)  # what the numbers depend on


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and PDF; return their paths."""
    stem = stem.with_suffix("") if stem.suffix in (".png", ".pdf") else stem
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "pdf")]
    for path in paths:
        figure.savefig(path, dpi=_DPI)
    return paths


def readable(name: str, width: int = 17) -> str:
    """Make a class's name fit under a picture: its first words, nothing that matplotlib takes for a formula.

    >>> readable("black-and-gold garden spider, Argiope aurantia"), readable("sweet_pepper")
    ('black-and-gold…', 'sweet pepper')
    """
    first = name.partition(",")[0].replace("_", " ").replace("$", r"\$")
    return textwrap.shorten(first, width, placeholder="…") if " " in first else first[:width]


def headline(text: str, figure: Figure) -> str:
    """Break a text in letters of size `LABEL` into lines as wide as the figure."""
    return textwrap.fill(text, int(_LETTERS_AN_INCH * figure.get_figwidth()))


def plain(axes: Axes) -> None:
    """Draw a light grid in a diagram, and no box."""
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
